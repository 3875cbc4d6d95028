def main() -> None:
    print("Hello from litestar-app!")
