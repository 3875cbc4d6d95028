"""All of paramiko that Slipway touches and paramiko doesn't promise.

Everything else imports what `paramiko` itself exports. The unit tests tell what the version that is installed lacks.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import cast

from paramiko import PKey, Transport

TOUCHED: dict[str, tuple[str, ...]] = {
    "paramiko.Transport": (
        "auth_handler",
        "getpeername",
        "get_remote_server_key",
        "open_session",
    ),
    "paramiko.auth_handler.AuthHandler": ("auth_method", "private_key"),
    "paramiko.agent.AgentKey": ("inner_key",),
    "paramiko.PKey": ("get_bits", "get_name"),
    "paramiko.SSHClient.connect": ("transport_factory",),
}
"""What is touched by name: a class, or a function → its attributes, or its arguments."""


def missing(name: str) -> str:
    """What to say where paramiko has no `name`."""
    return f"paramiko {version('paramiko')} lacks {name}, which Slipway touches"


def transport_of(connector: object) -> Transport | None:
    """The transport of a connection; None where there is none."""
    client = getattr(connector, "client", None)
    return cast("Transport | None", client.get_transport()) if client else None


def login_of(transport: Transport | None) -> tuple[str, PKey | None]:
    """How a connection logged in: the method's name, and the key where it was one; of the agent's, the key behind."""
    handler = getattr(transport, "auth_handler", None)
    method, key = getattr(handler, "auth_method", ""), getattr(handler, "private_key", None)
    return method, key if isinstance(key, PKey) else None


def bits_of(key: PKey) -> object:
    """Bits of a key, which an agent's own doesn't tell."""
    inner = getattr(key, "inner_key", None) or key
    return inner.get_bits()
