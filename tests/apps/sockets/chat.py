"""A Socket.IO server beside a page of FastAPI's."""

import socketio
from fastapi import FastAPI

api = FastAPI()
sio = socketio.AsyncServer(async_mode="asgi")
app = socketio.ASGIApp(sio, api)


@api.get("/")
def page() -> str:
    """The page."""
    return "chat"


@sio.event
async def say(sid: str, number: int) -> dict[str, str | int]:
    """Give back what was said, and the file that answers."""
    return {"number": number, "file": __file__}
