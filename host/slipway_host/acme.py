"""Certificates: the names alone."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from slipway_host.system import System


def has(system: System, name: str, server: str, domains: Collection[str]) -> bool:
    """Whether the certificate is for just these domains, from this server, and valid."""
    raise NotImplementedError


def order(
    system: System,
    name: str,
    server: str,
    domains: Sequence[str],
    *,
    ca_file: str | None = None,
    check_first: bool = True,
) -> None:
    """Let certbot order the certificate; raises Failed, and then the one from before stays in use."""
    raise NotImplementedError
