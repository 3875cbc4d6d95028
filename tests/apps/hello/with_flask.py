"""Answers some bytes, as an app of Flask does: WSGI."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> dict[str, str]:
    """Greet."""
    return {"hello": "world"}
