"""One route of an application that a function makes."""

from fastapi import FastAPI


def create_app(name: str = "world") -> FastAPI:
    """An application that greets."""
    app = FastAPI()

    @app.get("/")
    def greet() -> dict[str, str]:
        return {"greeted": name, "file": __file__}

    return app
