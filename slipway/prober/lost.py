"""Requests that were lost: what befell them, in words."""

from __future__ import annotations

import errno
import os

import aiohttp

CLEAN = frozenset({1000, 1001, 1012})
"""Close codes of a WebSocket that ask for nothing but to come again: done, going away, restart (RFC 6455, 7.4.1; IANA's
registry). Servers send 1012 when they stop."""


class LostError(Exception):
    """A request that failed; the text is the reason in words, without the request."""


class TornError(Exception):
    """The connection ended before the head of an answer was there. No aiohttp error, which aiohttp would retry."""

    def __init__(self, error: Exception) -> None:
        # The message is no text but a head of an answer, where half of one came.
        half = isinstance(error, aiohttp.ServerDisconnectedError) and not isinstance(error.message, str)
        super().__init__("the connection was closed in the head of it" if half else cause(error))
        self.unanswered = not half


class RefusedError(Exception):
    """The warm-up failed; the text is for the user."""


def words(error: BaseException) -> str:
    """What befell a request, as the rest of a sentence that begins with it."""
    if isinstance(error, TimeoutError):
        return "got no answer in time"
    if isinstance(error, TornError):
        return f"got no answer: {error}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"found a certificate that isn't trusted: {error.certificate_error}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"found no connection: {cause(error.os_error)}"
    if isinstance(error, aiohttp.WSServerHandshakeError) and error.status != 101:
        return f"answered {error.status} and opened no WebSocket"
    if isinstance(error, aiohttp.ClientPayloadError):
        return "got a torn answer"
    return f"broke off: {cause(error)}"


def cause(error: BaseException) -> str:
    """Why, in the system's words."""
    if isinstance(error, OSError) and error.errno and error.errno in errno.errorcode:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
