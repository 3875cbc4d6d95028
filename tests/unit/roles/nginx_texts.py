"""nginx's configuration as tests of it read it: rendered for a host, and taken apart."""

from __future__ import annotations

from roles.nginx import configuration
from roles.nginx.facts import Versions
from slipway.settings import Settings

NGINX = {"1.22": Versions((1, 22, 1), (3, 0)), "1.26": Versions((1, 26, 3), (3, 5))}
"""nginx and OpenSSL of Debian 12 and 13."""
WEBROOT = "/var/lib/slipway/acme"
"""Where certbot puts what an ACME server asks for."""


def nginx(settings: Settings, version: str = "1.22", *, certificates: bool = True, ipv6: bool = True) -> dict[str, str]:
    """nginx's files on a host with or without IPv6 and certificates."""
    return configuration(settings, NGINX[version], lambda path: ipv6 if path == "/proc/net/if_inet6" else certificates)


def directives(text: str) -> list[str]:
    """Lines of an nginx file without comments and indentation."""
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def servers(text: str) -> list[list[str]]:
    """The directives of each server block."""
    blocks, depth, current = [], 0, list[str]()
    for line in directives(text):
        if depth == 0 and line == "server {":
            current, depth = [], 1
        elif depth:
            depth += line.endswith("{") - (line == "}")
            current.append(line)
            if depth == 0:
                blocks.append(current[:-1])
        else:
            assert not line.startswith("listen"), f"outside of a server: {line}"
    return blocks


def server(text: str, listen: str) -> list[str]:
    """The one server block that listens there."""
    found = [block for block in servers(text) if any(line.startswith(f"listen {listen}") for line in block)]
    assert len(found) == 1, f"{len(found)} servers listen on {listen}:\n{text}"
    return found[0]
