"""One route, which says what is installed."""

from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI

app = FastAPI()


def _version() -> str:
    try:
        return version("greeting")
    except PackageNotFoundError:
        return "not installed"


@app.get("/")
def greet() -> dict[str, str]:
    """The version of the project, and the file that answers."""
    return {"version": _version(), "file": __file__}
