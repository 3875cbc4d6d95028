def main() -> None:
    print("Hello from starlette-app!")
