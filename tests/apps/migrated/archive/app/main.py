"""Tells how many notes there are."""

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.database import engine


def count(request):
    """The number of notes."""
    with engine.connect() as connection:
        return PlainTextResponse(str(connection.execute(text("SELECT count(*) FROM notes")).scalar()))


app = Starlette(routes=[Route("/", count)])
