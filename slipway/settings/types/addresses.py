"""Addresses: of repositories, mirrors and mail, networks, and what HTTP says of them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

from slipway.settings.types.names import check_host_name
from slipway.settings.types.narrow import Hint, Narrow, matches

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?"

_PATH = r"[A-Za-z0-9._~+@%-][A-Za-z0-9._~/+@%-]{0,500}"


def _check_git(value: str) -> Hint | bool:
    if value.startswith("-"):
        return "write a URL; git would take this for an option"
    if value.startswith(("http://", "git://")):
        return "use https:// or ssh: this protocol lets anyone on the way change the code"
    if re.match(r"https://[^/]*@", value):
        return "remove user and password; for a private repository use its SSH URL and deploy_key"
    if re.match(r"ssh://[^/@]*:[^/]*@", value):
        return "remove the password; use deploy_key"
    if re.search(r"\s", value) or not value.isprintable():
        return "remove spaces and line breaks"
    return any(
        matches(pattern)(value)
        for pattern in (
            rf"https://{_HOST}(?::[0-9]{{1,5}})?/{_PATH}",
            rf"ssh://(?:[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}}@)?{_HOST}(?::[0-9]{{1,5}})?/{_PATH}",
            rf"[A-Za-z0-9_][A-Za-z0-9._-]{{0,63}}@{_HOST}:/?[A-Za-z0-9._~][A-Za-z0-9._~/+@%-]{{0,500}}",
            rf"file:///{_PATH}",
        )
    )


GitUrl = Annotated[
    str,
    Narrow(
        "the address of a git repository: https://…, ssh://…, git@host:path or file:///…",
        'write it such as "https://git.example.com/team/notes.git" or "git@git.example.com:team/notes.git"',
        _check_git,
    ),
]
"""Where a git repository is."""


def _check_ref(value: str) -> Hint | bool:
    if value.startswith("-"):
        return "write a branch, tag or commit; git would take this for an option"
    if ".." in value or "//" in value or value.endswith((".", "/", ".lock")) or "/." in value:
        return False
    return matches(r"[A-Za-z0-9_][A-Za-z0-9._/@+-]{0,199}")(value)


GitRef = Annotated[
    str,
    Narrow(
        "a branch, tag or commit: letters, digits and . _ / @ + -",
        'write it such as "main", "v1.4.0" or a commit\'s hash',
        _check_ref,
    ),
]
"""What of a git repository to release."""


def _check_url(*schemes: str) -> Callable[[str], Hint | bool]:
    def check(value: str) -> Hint | bool:
        if not matches(r"[A-Za-z0-9._~:/?=&%+@\[\]-]{1,500}")(value):
            return "remove spaces, quotes and other characters a URL doesn't have"
        try:
            parts = urlsplit(value)
            _ = parts.port  # reading it checks it
        except ValueError:
            return False
        if parts.scheme not in schemes:
            return f"start it with {' or '.join(f'{scheme}://' for scheme in schemes)}"
        if parts.scheme == "file":
            return not parts.netloc and len(parts.path) > 1
        if "@" in parts.netloc:
            return "remove user and password from the URL: it ends in files that others read"
        return bool(parts.hostname)

    return check


AcmeUrl = Annotated[
    str,
    Narrow(
        "the https:// URL of an ACME directory",
        'write it such as "https://acme.example.com/directory"',
        _check_url("https"),
    ),
]
"""ACME directory."""

WebUrl = Annotated[
    str,
    Narrow(
        "an https:// or http:// URL without user and password",
        'write it such as "https://pypi.example.com/simple"',
        _check_url("https", "http"),
    ),
]
"""URL of a package index."""

FileUrl = Annotated[
    str,
    Narrow(
        "an https://, http:// or file:// URL without user and password",
        'write it such as "https://mirror.example.com/python" or "file:///srv/mirror"',
        _check_url("https", "http", "file"),
    ),
]
"""URL of a mirror; file:// is on the host."""

Email = Annotated[
    str,
    Narrow(
        "an e-mail address",
        'write it such as "ops@example.com"',
        lambda value: (
            len(value) <= 254
            and matches(r"[A-Za-z0-9_+][A-Za-z0-9_+-]*(?:\.[A-Za-z0-9_+-]+)*@[^@]+")(value)
            and "." in value.partition("@")[2]
            and "*" not in value
            and check_host_name(value.partition("@")[2]) is True
        ),
    ),
]
"""E-mail address."""


def _check_network(value: str) -> Hint | bool:
    if not matches(r"[0-9A-Fa-f.:]{2,45}(?:/[0-9]{1,3})?")(value):
        return False
    try:
        network = ipaddress.ip_network(value)
    except ValueError:
        try:
            return f'it has host bits: write "{ipaddress.ip_network(value, strict=False)}"'
        except ValueError:
            return False
    if network.prefixlen == 0:
        return "name the proxies' own networks: with /0 every client could forge its address"
    return True


Network = Annotated[
    str,
    Narrow(
        "a network in CIDR notation, such as 173.245.48.0/20 or 2400:cb00::/32",
        "write the network's first address, a slash and the number of its bits",
        _check_network,
    ),
]
"""IPv4 or IPv6 network."""

HeaderName = Annotated[
    str,
    Narrow(
        "the name of an HTTP header: letters, digits and hyphens",
        'write it such as "X-Forwarded-For" or "CF-Connecting-IP"',
        matches(r"[A-Za-z][A-Za-z0-9-]{0,63}"),
    ),
]
"""Name of an HTTP header."""

HeaderValue = Annotated[
    str,
    Narrow(
        'the value of a header: one line of ASCII without ", \\ and $',
        "write it as browsers should get it, such as \"default-src 'self'; object-src 'none'\"",
        matches(r"[!#%-,./-\[\]-~](?:[ !#%-\[\]-~]{0,3998}[!#%-\[\]-~])?"),
    ),
]
"""Value of an HTTP header, within double quotes of nginx's."""


def _check_hsts(value: str) -> Hint | bool:
    found = re.fullmatch(r"max-age=([0-9]{1,9})((?:; (?:includeSubDomains|preload))*)", value, re.ASCII)
    if found is None:
        return False
    words = found[2].split("; ")[1:]
    if len(set(words)) < len(words):
        return "write each part once"
    if "preload" in words and ("includeSubDomains" not in words or int(found[1]) < 31_536_000):
        return "preload needs includeSubDomains and a max-age of at least 31536000 (hstspreload.org)"
    return True


Hsts = Annotated[
    str,
    Narrow(
        "max-age=seconds, with or without ; includeSubDomains and ; preload",
        'write it such as "max-age=63072000" or "max-age=63072000; includeSubDomains"',
        _check_hsts,
    ),
]
"""Value of Strict-Transport-Security (RFC 6797)."""

Rate = Annotated[
    str,
    Narrow(
        "a rate as nginx writes it: a number, then r/s or r/m",
        'write it such as "20r/s" or "10r/m"',
        matches(r"[1-9][0-9]{0,5}r/[sm]"),
    ),
]
"""Requests a second or a minute."""

KeyId = Annotated[
    str,
    Narrow(
        "the key identifier your CA gave you, of letters, digits and . _ ~ + / = : -",
        "copy it from the CA's account page",
        matches(r"[A-Za-z0-9_][A-Za-z0-9._~+/=:-]{0,299}"),
        secret=True,
    ),
]
"""Identifier of an external account binding key; hidden, because people mix it up with the key."""
