def main() -> None:
    print("Hello from quart-app!")
