"""Uvicorn that loses nothing when it stops. Managed by Slipway (roles/release)."""

import asyncio

from slipway_served import CLOSE, LAST_SECONDS
from uvicorn import Server

# Seconds for nginx to end a WebSocket after our close frame. A client that reads nothing would delay it for ever.
FAREWELL_SECONDS = 2
SIGNS_SECONDS = 1


class Farewell:
    """A transport that, when it is closed, only ends what is sent: the peer reads that, and ends the connection.

    Closed at once, a connection takes the goodbye with it when a message is on its way to the app: nginx can't write
    that (EPIPE), or learns that it wasn't read (ECONNRESET), and then doesn't look for what it has yet to read.
    """

    def __init__(self, transport):
        self._transport = transport
        self._closed = False
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, transport.close)

    def __getattr__(self, name):
        return getattr(self._transport, name)

    def is_closing(self):
        return self._closed or self._transport.is_closing()

    def write(self, data):
        if not self.is_closing():
            self._transport.write(data)

    def close(self):
        if not self.is_closing():
            self._closed = True
            self._transport.write_eof()
            self._transport.resume_reading()


def patient(protocol):
    """An implementation of WebSockets of uvicorn's, but with a goodbye that arrives when a worker stops."""

    class PatientProtocol(protocol):
        leaving = False

        def shutdown(self):
            opened = getattr(self, "handshake_completed_event", None)  # of the oldest implementation
            if opened.is_set() if opened else self.handshake_complete:
                self.leaving = True
                self.transport = Farewell(self.transport)
            super().shutdown()

        def data_received(self, data):
            if not self.leaving:  # the answer to a goodbye, and what was on its way
                super().data_received(data)

    return PatientProtocol


class Patient(Server):
    """Answers what is on its way on kept connections before it closes them."""

    async def shutdown(self, sockets=None):
        for each in self.servers:
            each.close()
        self.server_state.default_headers = [*self.server_state.default_headers, CLOSE]
        signs = asyncio.ensure_future(self._signs())
        try:
            await asyncio.sleep(LAST_SECONDS)
            await super().shutdown(sockets)
        finally:
            signs.cancel()

    async def _signs(self):
        """Go on giving signs of life, or requests that take their time would be taken for a worker that is stuck."""
        while self.config.callback_notify is not None:
            await self.config.callback_notify()
            await asyncio.sleep(SIGNS_SECONDS)
