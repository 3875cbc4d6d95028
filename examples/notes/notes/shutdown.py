"""Ends endless responses when the server stops."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType


@asynccontextmanager
async def stop_event() -> AsyncIterator[asyncio.Event]:
    """Yield an event that is set as soon as the server is told to stop (SIGTERM, SIGINT).

    uvicorn ends the lifespan only after the last response. A stream without an end that waited for the lifespan
    would hold up every restart until the time-out, so this listens to the signals and passes them on to uvicorn's
    own handlers. Enter it in the lifespan, where those are installed already.
    """
    stopping = asyncio.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopping  # a test client's thread: nobody signals it
        return
    loop = asyncio.get_running_loop()
    earlier = {n: handler for n in (signal.SIGTERM, signal.SIGINT) if callable(handler := signal.getsignal(n))}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(stopping.set)
        earlier[signal.Signals(number)](number, frame)

    for number in earlier:
        signal.signal(number, handle)
    try:
        yield stopping
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


async def wait(stopping: asyncio.Event, seconds: float) -> bool:
    """Sleep for `seconds`, or until the server stops; return whether it stops."""
    try:
        async with asyncio.timeout(seconds):
            return await stopping.wait()
    except TimeoutError:
        return False
