"""Environment variables: what may be one, how they are read from a ``.env`` and written for systemd."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from dotenv.parser import parse_stream

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What the name of a variable is made of (POSIX)."""

LONGEST = 100_000
"""Bytes of the longest value: Linux refuses to start a program with one variable of 128 KiB (MAX_ARG_STRLEN)."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_QUOTED = re.compile(r'["\\`$]')
_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+._-]*)://(?P<authority>[^/?#]*)(?P<rest>.*)", re.DOTALL)
_HOSTS = re.compile(r"(?:(?:\[[0-9A-Fa-f:.]+\]|[^\[\]:,]*)(?::(?P<port>[0-9]{1,5}))?(?:,|$))*")
_POSTGRES = re.compile(r"postgres(?:ql)?(?:\+(?P<driver>[a-z0-9_]+))?")
_LIBPQ_ONLY = """
application_name channel_binding connect_timeout fallback_application_name gssencmode keepalives options requirepeer
sslcert sslcompression sslcrl sslkey sslpassword sslrootcert sslsni
"""


def unfit_value(value: str) -> str | None:
    """Why `value` can't be a variable's value, or None.

    Everything but control characters survives: systemd drops a variable whose value has one. Tabs and line feeds are
    taken.
    """
    if "\0" in value:
        return "a NUL character"
    if "\r" in value:
        return "a carriage return"
    if _CONTROL.search(value):
        return "a control character"
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        return "a character that UTF-8 can't write"
    return f"{size} bytes" if size > LONGEST else None


def plain_text(value: str | int | float | bool) -> str:
    """A plain setting as the app will read it: ``True`` becomes ``true``, numbers are written as in Python."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def fit_number(value: float) -> bool:
    """Whether a number can be written for an app: infinities and NaN can't."""
    return math.isfinite(value)


def render_env(environment: Mapping[str, str]) -> str:
    r"""The lines of an environment file, sorted by name: ``NAME="value"`` with ``"``, ``\``, `````, ``$`` escaped.

    systemd (``EnvironmentFile=``, systemd.exec(5)) reads every value back exactly as it was; so does a POSIX shell.
    Raises ValueError, naming the variable alone, for what neither could read back.
    """
    lines = []
    for name, value in sorted(environment.items()):
        if not NAME.fullmatch(name):
            raise ValueError(f"{name.split('=')[0]!r} can't be the name of a variable")
        if reason := unfit_value(value):
            raise ValueError(f"the value of {name} can't be written to an environment file: it has {reason}")
        lines.append(f'{name}="{_QUOTED.sub(lambda match: chr(92) + match[0], value)}"\n')
    return "".join(lines)


@dataclass
class EnvFile:
    """What a ``.env`` file says, and what is wrong with it."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    """Every well-formed variable; of one written twice, the last."""
    duplicates: dict[str, list[int]] = field(default_factory=dict)
    """Variable written more than once → its lines."""
    unreadable: list[int] = field(default_factory=list)
    """Lines that aren't ``NAME=value``."""


def parse_env(text: str) -> EnvFile:
    """Read the text of a ``.env`` file as python-dotenv does, without interpolation: ``$`` is a dollar sign."""
    result = EnvFile()
    lines: dict[str, list[int]] = {}
    for binding in parse_stream(io.StringIO(text)):
        blank = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string[:blank].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            result.unreadable.append(line)
        elif binding.key is not None and binding.value is not None:
            lines.setdefault(binding.key, []).append(line)
            result.values[binding.key] = binding.value
    result.duplicates = {name: found for name, found in lines.items() if len(found) > 1}
    return result


def unfit_database_url(url: str, driver: str | None) -> tuple[str, str] | None:
    """What is wrong with a ``DATABASE_URL`` and what to do, without repeating any of it; None if nothing is.

    `driver` is the app's ``database_driver``: with one, the URL must be PostgreSQL's and fit that driver.
    """
    encode = (
        "percent-encode the password, that is @ as %40, : as %3A, / as %2F, # as %23, ? as %3F, % as %25: "
        "python3 -c 'import getpass, urllib.parse as u; print(u.quote(getpass.getpass(), safe=\"\"))'"
    )
    match = _URL.fullmatch(url)
    if match is None:
        return "not a URL", "write it as postgresql://user:password@host:5432/database"
    authority, rest = match["authority"], match["rest"]
    user, at, hosts = authority.rpartition("@")
    if "@" in user:
        return "an unescaped @ before the host", encode
    if not at and "@" in rest and ":" in authority:
        return "an unescaped /, ? or # before the host", encode
    if user.count(":") > 1:
        return "an unescaped : in the password", encode
    if _PERCENT.search(url):
        return "a % that isn't followed by two hexadecimal digits", encode
    if re.search(r"\s", url) or not url.isascii():
        return "a space or a character outside ASCII", encode
    found = _HOSTS.fullmatch(hosts)
    if found is None or not all(0 < int(port) < 65536 for port in re.findall(r":([0-9]+)(?=,|$)", hosts)):
        return "a host or port that can't be read", "write host:port with a port from 1 to 65535"
    if driver is None:
        return None
    postgres = _POSTGRES.fullmatch(match["scheme"])
    if postgres is None:
        return f"a {match['scheme']} URL", "give a postgresql:// URL, or remove database_driver"
    if postgres["driver"] not in (None, driver, f"{driver}_async"):
        return f"a URL for {postgres['driver']}", f"write postgresql:// ; database_driver adds +{driver}"
    if driver == "asyncpg":
        names = {unquote(part.partition("=")[0]) for part in rest.partition("?")[2].split("&")}
        if foreign := sorted(names.intersection(_LIBPQ_ONLY.split())):
            listed = ", ".join(foreign)
            return f"libpq's {listed}", f"asyncpg doesn't know {listed}: remove it, or set database_driver to psycopg"
    return None


def names_host(url: str) -> bool:
    """Whether a ``DATABASE_URL`` leads to a host, rather than to a file or a Unix socket."""
    match = _URL.fullmatch(url)
    hosts = match["authority"].rpartition("@")[2] if match else ""
    return bool(hosts) and not hosts.lower().startswith("%2f")


def placeholder(value: str) -> str:
    """A placeholder for a secret, for code that isn't trusted yet: of the same kind, without anything of the secret.

    A URL keeps its scheme, which says what reads it; a number, a switch and JSON stay what they are.
    """
    if match := _URL.fullmatch(value):
        scheme = match["scheme"]
        return f"{scheme}://" if scheme.startswith("sqlite") else f"{scheme}://localhost/placeholder"
    if value.strip().isdecimal():
        return "1"
    if value.strip().lower() in ("true", "false"):
        return "false"
    return {"{": "{}", "[": "[]"}.get(value.strip()[:1], "placeholder")


def database_urls(url: str, driver: str) -> dict[str, str]:
    """``DATABASE_URL`` for SQLAlchemy with `driver`, and the original for other tools as ``DATABASE_URL_SYNC``.

    Providers write ``postgres://`` or ``postgresql://``; SQLAlchemy wants ``postgresql+<driver>://``, and asyncpg
    calls libpq's ``sslmode`` ``ssl``. Nothing else of the URL changes. Other URLs are returned as they are.
    """
    match = _URL.fullmatch(url)
    if match is None or not _POSTGRES.fullmatch(match["scheme"]):
        return {"DATABASE_URL": url}
    base = f"{match['authority']}{match['rest']}"
    rewritten = re.sub(r"(?<=[?&])sslmode=", "ssl=", base) if driver == "asyncpg" else base
    return {"DATABASE_URL": f"postgresql+{driver}://{rewritten}", "DATABASE_URL_SYNC": f"postgresql://{base}"}
