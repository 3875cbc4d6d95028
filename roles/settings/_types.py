"""The narrow types of settings: each says once, for people and for the check, what a value must be.

Whatever a type here accepts is safe where templates put it: no accepted string can end a directive, a quoted string
or a line of nginx's, systemd's or a shell's.
"""

from __future__ import annotations

import base64
import difflib
import ipaddress
import re
import shlex
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from roles.settings import _environment, _names

Hint = str
"""What to do about a refused value."""


@dataclass(frozen=True)
class Narrow:
    """What a setting must be: the text, the check, and the next step when the check fails."""

    expected: str
    """Completes the sentence "this must be …"."""
    do: Hint
    """What to do when a value is refused and the check knows nothing better."""
    check: Callable[[Any], Hint | bool] | None = None
    """False or a hint refuse a value that already has the right Python type."""
    secret: bool = False
    """The value may be a secret and is never shown."""
    container: bool = False
    """A list or mapping: what is wrong inside is reported there, not here."""

    def refuse(self, hint: Hint | None = None) -> PydanticCustomError:
        """The error for a refused value, in the form `roles.settings._load` reads."""
        context = {"expected": self.expected, "do": hint or self.do, "secret": self.secret}
        return PydanticCustomError("setting", "{expected}", context)

    def _checked(self, value: Any) -> Any:
        verdict = True if self.check is None else self.check(value)
        if verdict is True:
            return value
        raise self.refuse(verdict if isinstance(verdict, str) else None)

    def _narrowed(self, value: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
        try:
            value = handler(value)
        except ValidationError:
            wrong_type = self.refuse()
        else:
            return self._checked(value)
        raise wrong_type

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """pydantic's hook: the value's own type first, then the check."""
        if self.container:
            return core_schema.no_info_after_validator_function(self._checked, handler(source))
        return core_schema.no_info_wrap_validator_function(self._narrowed, handler(source))


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.ASCII)
    return lambda value: compiled.fullmatch(value) is not None


def whole(low: int, high: int, unit: str = "") -> Narrow:
    """A whole number of `unit` from `low` to `high`."""
    expected = f"a whole number{f' of {unit}' if unit else ''} from {low} to {high}"
    return Narrow(expected, f"write a number from {low} to {high}, without quotes", lambda value: low <= value <= high)


def one_of(*values: str) -> Narrow:
    """One of a few words."""
    listed = ", ".join(f'"{value}"' for value in values)
    return Narrow(f"one of {listed}", f"write one of {listed}")


def mapping_of(what: str, do: Hint) -> Narrow:
    """A mapping, with what its keys and values are."""
    return Narrow(f"a mapping of {what}", do, container=True)


# --- Names -----------------------------------------------------------------------------------------------------------


def _check_app_name(value: str) -> Hint | bool:
    if re.fullmatch(r"[a-z][a-z0-9-]{0,29}", value, re.ASCII) is None:
        return False
    if _names.reserved_app(value):
        return "choose another name: a user, unit or folder of the system is called so, and the app's would collide"
    return True


AppName = Annotated[
    str,
    Narrow(
        "a name of 1 to 30 lower-case letters, digits and hyphens that starts with a letter and is not the system's",
        "choose a name such as notes or notes-api; user, folders and units are called after it",
        _check_app_name,
    ),
]
"""Name of an app: its user, group, folders and units carry it, so it can't be one the system has."""


def _check_package(value: str) -> Hint | bool:
    return re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", value, re.ASCII) is not None


PackageName = Annotated[
    str,
    Narrow("the name of a Python package", 'write it as the lock file does, such as "psycopg2"', _check_package),
]
"""Name of a distribution package (packaging.python.org, "Names and normalization")."""


def _check_login(value: str) -> Hint | bool:
    if re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", value, re.ASCII) is None:
        return False
    if value in _names.RESERVED_LOGINS:
        return "choose another name: this is a user or a group of the system"
    return True


Login = Annotated[
    str,
    Narrow(
        "a user's name: at most 32 lower-case letters, digits, _ and -, not starting with a digit",
        "choose a name such as deploy or your own",
        _check_login,
    ),
]
"""Name of a person's account."""

_KEY_TYPES = ("ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384",
              "ecdsa-sha2-nistp521", "sk-ecdsa-sha2-nistp256@openssh.com", "ssh-rsa")  # fmt: skip
SMALLEST_RSA = 3072
"""Bits of the smallest RSA key for logins: what a hardened sshd asks for (RequiredRSASize; BSI TR-02102-1)."""


def _check_public_key(value: str) -> Hint | bool:
    """Of a line of authorized_keys: options may stand before the key, a comment behind it."""
    if "PRIVATE KEY" in value:
        return "that is a private key, which belongs on your machine alone: write the line of its .pub file"
    if value != value.strip() or not value.isprintable():
        return "write one line, without the line break at its end"
    words = value.split()
    at = next((number for number, word in enumerate(words) if word in _KEY_TYPES), None)
    if at is None:
        return "write a key of type ssh-ed25519, ecdsa-sha2-… or ssh-rsa; sshd takes no other" if words else False
    try:
        blob = base64.b64decode(words[at + 1], validate=True)
    except (IndexError, ValueError):
        return "the key isn't whole: copy the line again"
    # RFC 4253, 6.6: strings of a length and as many bytes; first the type again. Of RSA follow exponent and modulus.
    fields, rest = [], blob
    while len(rest) >= 4:
        length = int.from_bytes(rest[:4], "big")
        fields.append(rest[4 : 4 + length])
        rest = rest[4 + length :] if len(rest) >= 4 + length else b"?"
    if rest or len(fields) < 2 or fields[0] != words[at].encode():
        return "the key isn't whole: copy the line again"
    if words[at] == "ssh-rsa" and (len(fields) != 3 or int.from_bytes(fields[2], "big").bit_length() < SMALLEST_RSA):
        return f"sshd takes RSA of at least {SMALLEST_RSA} bits: make a new key with ssh-keygen -t ed25519"
    return True


PublicKey = Annotated[
    str,
    Narrow(
        'a public SSH key, as in a .pub file: "ssh-ed25519 AAAA… me@laptop"',
        "write the line of the .pub file",
        _check_public_key,
        secret=True,
    ),
]
"""A line of authorized_keys; hidden, because people mix up a key's two halves."""


def _check_variable(value: str) -> Hint | bool:
    if _environment.NAME.fullmatch(value) is None:
        return False
    return _names.reserved_variable(value) or True


VARIABLE = Narrow(
    "a variable's name: letters, digits and underscores, not starting with a digit, and not reserved",
    "rename the variable, in the app too",
    _check_variable,
)
Variable = Annotated[str, VARIABLE]
"""Name of an environment variable that an inventory may set."""


def _check_plain(value: str | int | float | bool) -> Hint | bool:
    if isinstance(value, float) and not isinstance(value, bool):
        return _environment.fit_number(value)
    if isinstance(value, str) and (reason := _environment.unfit_value(value)):
        return unfit_hint(reason)
    return True


def unfit_hint(reason: str) -> Hint:
    """What to do about a variable's value with `reason` in it."""
    return f"it has {reason}: encode the value (base64, or \\n written out) and decode it in the app"


VARIABLE_VALUE = Narrow(
    "text of one line, a number, True or False", "write a string, a number, True or False", _check_plain, secret=True
)
VariableValue = Annotated[str | int | float | bool, VARIABLE_VALUE]
"""Value of an environment variable; any text that has no line break or other control character."""

VariableRef = Annotated[
    str,
    Narrow(
        "the name of a variable in env_file",
        "write the variable's name alone, such as SECRET_KEY",
        _matches(_environment.NAME.pattern),
    ),
]
"""Name of a variable that a ``.env`` must have."""

SecretRef = Annotated[
    str,
    Narrow(
        "the name of a variable in the host's env_file",
        "write the variable's name such as EAB_HMAC_KEY here, and the key itself in env_file",
        _matches(_environment.NAME.pattern),
        secret=True,
    ),
]
"""Name of a variable that holds a secret; never shown, because people paste the secret itself here."""

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value.strip("[]"))
    except ValueError:
        return False
    return True


def _check_host_name(value: str) -> Hint | bool:
    """Each way people get a name wrong has a hint of its own."""
    if not value:
        return "write the name, such as notes.example.com, or remove the empty entry"
    if "://" in value:
        return "write the name alone, without http:// or https://"
    if _is_address(value):
        return "write a name that points to this address; certificates here are for names"
    if "/" in value:
        return "write the name alone, without a path"
    if re.search(r":[0-9]+$", value):
        return "write the name alone, without a port; nginx listens on 80 and 443"
    if value != value.strip():
        return "remove the space around the name"
    if value.endswith("."):
        return "remove the dot at the end"
    if "_" in value:
        return "remove the underscore: a host name has letters, digits and hyphens alone"
    if not value.isascii():
        return _punycode_hint(value)
    if value != value.lower():
        return "write it in lower case" if _check_host_name(value.lower()) is True else False
    if len(value) > 253:
        return f"shorten the name: it has {len(value)} characters, DNS allows 253"
    labels = value.removeprefix("*.").split(".")
    if longest := next((label for label in labels if len(label) > 63), None):
        return f"shorten the part that starts with {longest[:20]}: it has {len(longest)} characters, DNS allows 63"
    return all(_LABEL.fullmatch(label) for label in labels) and not labels[-1].isdigit()


def _punycode_hint(value: str) -> Hint:
    try:
        encoded = value.encode("idna").decode()
    except UnicodeError:
        encoded = ""
    if encoded and _check_host_name(encoded) is True:
        return f"write it in punycode: {encoded}"
    return "write it in punycode (xn--…)"


DOMAIN = Narrow(
    "a host name in lower-case ASCII, such as notes.example.com",
    "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen",
    _check_host_name,
)
Domain = Annotated[str, DOMAIN]
"""Name the app answers to."""


def _check_machine_name(value: str) -> Hint | bool:
    if len(value) > 64:
        return f"shorten it: it has {len(value)} characters, Linux allows 64"
    return False if "*" in value else _check_host_name(value)


MachineName = Annotated[
    str,
    Narrow(
        "a host name in lower-case ASCII of at most 64 characters",
        "write a name such as web1 or web1.example.com",
        _check_machine_name,
    ),
]
"""The host's own name."""

Package = Annotated[
    str,
    Narrow(
        "the name of a Debian package",
        "write the name as apt-cache search shows it: lower-case letters, digits, + . and -",
        _matches(r"[a-z0-9][a-z0-9+.-]{1,100}"),
    ),
]
"""Name of a Debian package."""


def _check_timezone(value: str) -> Hint | bool:
    if _matches(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z][A-Za-z0-9_+-]{0,30}){0,2}")(value) is False:
        return False
    known = zoneinfo.available_timezones()
    if not known or value in known:
        return True
    near = difflib.get_close_matches(value, known, n=1)
    return f'did you mean "{near[0]}"?' if near else False


Timezone = Annotated[
    str,
    Narrow(
        "a time zone's name",
        "write a name such as Etc/UTC or Europe/Berlin (timedatectl list-timezones)",
        _check_timezone,
    ),
]
"""Name of a time zone in the IANA database."""

# --- Numbers and sizes -----------------------------------------------------------------------------------------------

Switch = Annotated[bool, Narrow("True or False", "write True or False, without quotes")]
"""On or off."""

Port = Annotated[
    int,
    Narrow(
        "a port from 1024 to 65535",
        "write a free port such as 8001, without quotes; 22, 80 and 443 are sshd's and nginx's",
        lambda value: 1024 <= value <= 65535,
    ),
]
"""TCP port that no privileged service uses."""

TcpPort = Annotated[int, whole(1, 65_535)]
"""Any port."""

Workers = Annotated[int, whole(1, 256)]
"""Number of worker processes."""

Seconds = Annotated[int, whole(1, 3600, "seconds")]
"""A time-out."""

BodySize = Annotated[
    str,
    Narrow(
        "a size as nginx writes it: digits with k, m or g, or 0 for no limit",
        'write it such as "10m", "512k" or "1g", without a space',
        _matches(r"0|[1-9][0-9]{0,5}[kmg]|[1-9][0-9]{0,11}"),
    ),
]
"""Size in nginx's notation."""

JournalSize = Annotated[
    str,
    Narrow(
        "a size as journald writes it: digits with K, M, G or T",
        'write it such as "500M" or "1G"',
        _matches(r"[1-9][0-9]{0,5}[KMGT]"),
    ),
]
"""Size in journald's notation."""

Umask = Annotated[
    str,
    Narrow(
        'four octal digits as a string, from "0000" to "0077"',
        'write "0027" (group reads, others nothing) or "0077" (nobody else); the owner\'s bits stay 0, or the app '
        "couldn't read its own files",
        _matches(r"00[0-7]{2}"),
    ),
]
"""File mode creation mask."""

# --- The system ------------------------------------------------------------------------------------------------------

TimeOfDay = Annotated[
    str,
    Narrow(
        'a time of day from "00:00" to "23:59"',
        'write hours and minutes, such as "04:30"',
        _matches(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]"),
    ),
]
"""Time of day, in the host's time zone."""

AptOrigin = Annotated[
    str,
    Narrow(
        "an origin as unattended-upgrades names it: keyword=value, several joined by commas",
        'write it such as "site=apt.postgresql.org" or "origin=Docker,label=Docker CE" (apt-cache policy shows them)',
        _matches(
            r"(?:origin|label|archive|suite|codename|component|site)=[A-Za-z0-9*$][A-Za-z0-9 ${}_*./+-]{0,80}"
            r"(?:,(?:origin|label|archive|suite|codename|component|site)=[A-Za-z0-9*$][A-Za-z0-9 ${}_*./+-]{0,80}){0,6}"
        ),
    ),
]
"""Pattern of unattended-upgrades for the packages of one source."""


def _check_sysctl_key(value: str) -> Hint | bool:
    if value.startswith("/proc/sys/"):
        return f'write it as "{value.removeprefix("/proc/sys/").replace("/", ".")}"'
    return _matches(r"[a-z]+(?:\.[A-Za-z0-9_-]+)+")(value)


SysctlKey = Annotated[
    str,
    Narrow(
        "a kernel setting's name, such as net.ipv4.tcp_syncookies",
        "write the name as `sysctl -a` shows it: words joined by dots",
        _check_sysctl_key,
    ),
]
"""Name of a sysctl; no interface with a dot in its name."""

SysctlValue = Annotated[
    int | str,
    Narrow(
        "a kernel setting's value: a number, a text of one line, or None",
        'write it as `sysctl` shows it, such as 1 or "4096 87380 6291456"',
        lambda value: (
            not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+|[A-Za-z0-9|/_. -]{1,200}", str(value)) is not None
        ),
    ),
]
"""Value of a sysctl."""

KernelModule = Annotated[
    str,
    Narrow(
        "the name of a kernel module",
        "write the name as lsmod shows it: letters, digits, _ and -",
        _matches(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}"),
    ),
]
"""Name of a kernel module."""

BannerText = Annotated[
    str,
    Narrow(
        "a text of one line, of at most 500 characters",
        "write it without a line break and without a backslash, which getty would interpret",
        lambda value: re.fullmatch(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029\\]{1,500}", value) is not None,
    ),
]
"""What is shown before a login."""

# --- The app ---------------------------------------------------------------------------------------------------------


def _check_asgi(value: str) -> Hint | bool:
    if re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", value, re.ASCII):
        return True
    if re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", value, re.ASCII):
        return f'add the attribute after a colon, such as "{value}:app"'
    if value.endswith(")"):
        return "name the application object, not a call: create it at module level"
    return False


AsgiApp = Annotated[
    str,
    Narrow("an ASGI application as module:attribute", 'write it such as "notes.main:app", without .py', _check_asgi),
]
"""Import path of an ASGI application."""

PythonVersion = Annotated[
    str,
    Narrow(
        'a Python version from "3.11" to "3.14", with or without a patch number',
        'write a string such as "3.13" or "3.13.5"',
        _matches(r"3\.1[1-4](?:\.(?:0|[1-9][0-9]?))?"),
    ),
]
"""Python version that `uv python install` gets."""


def _check_url_path(value: str) -> Hint | bool:
    if "\r" in value or "\n" in value:
        return "remove the line break"
    if "://" in value or value.startswith("//"):
        return "write the path alone, without scheme and host"
    if not value.startswith("/"):
        return "start it with /"
    if ".." in value.split("/"):
        return "write it without .."
    return _matches(r"/[A-Za-z0-9._~/-]{0,200}")(value)


UrlPath = Annotated[
    str,
    Narrow(
        "a path such as /healthz: / first, then letters, digits and . _ ~ - /",
        "write the path alone, without query, spaces or quotes",
        _check_url_path,
    ),
]
"""Path of a URL."""


def _check_url_target(value: str) -> Hint | bool:
    path, mark, query = value.partition("?")
    if (verdict := _check_url_path(path)) is not True:
        return verdict
    if not mark:
        return True
    if re.search(r"%(?![0-9A-Fa-f]{2})", query):
        return "write two hexadecimal digits after %; a per cent sign itself is %25"
    if _matches(r"(?:[A-Za-z0-9._~=&+,:@-]|%[0-9A-Fa-f]{2}){1,500}")(query):
        return True
    return "percent-encode the query: letters, digits and . _ ~ = & + , : @ - stay, a space is %20, a slash %2F"


UrlTarget = Annotated[
    str,
    Narrow(
        "a path with or without a query, such as /search?q=1",
        "write the path, and the query after one ?, without spaces or quotes",
        _check_url_target,
    ),
]
"""Path of a URL, and the query behind it."""


def _check_url_prefix(value: str) -> Hint | bool:
    if (verdict := _check_url_path(value)) is not True:
        return verdict
    if not value.endswith("/"):
        return "end it with /"
    if value.startswith("/.well-known/"):
        return "choose another prefix: ACME challenges are answered below /.well-known/"
    return "choose a prefix such as /static/: with / nothing would reach the app" if value == "/" else "//" not in value


UrlPrefix = Annotated[
    str, Narrow("a path that starts and ends with /, such as /static/", "write it such as /static/", _check_url_prefix)
]
"""Beginning of the paths that nginx answers from a folder."""


def _check_inner_path(value: str) -> Hint | bool:
    if value.startswith(("/", "~")):
        return "write it relative to the source, without / or ~ at the start"
    if ".." in value.split("/"):
        return "write it without .. ; for what lies above, point the source there"
    return all(
        re.fullmatch(r"[A-Za-z0-9_.+][A-Za-z0-9_.+-]{0,100}", part, re.ASCII) and part != "."
        for part in value.split("/")
    )


def _check_subdir(value: str) -> Hint | bool:
    return value == "" or _check_inner_path(value)


InnerPath = Annotated[
    str,
    Narrow(
        "a folder inside the app's folder: letters, digits and . _ + - /",
        'write it such as "static" or "src/notes/static"',
        _check_inner_path,
    ),
]
"""Folder within the app's folder."""

Subdir = Annotated[
    str,
    Narrow(
        "a folder inside the source: letters, digits and . _ + - /, or empty for its root",
        'write it such as "services/notes", or ""',
        _check_subdir,
    ),
]
"""Folder within a source."""


def _check_local_path(value: str) -> Hint | bool:
    if re.search(r"-----BEGIN|PRIVATE KEY", value):
        return "save it to a file beside the inventory (chmod 600), and write the file's name here"
    return bool(value.strip()) and len(value) <= 1024 and value.isprintable()


LOCAL_PATH = Narrow(
    "a path on this machine, relative to the inventory",
    "write the file's name, as a string of one line",
    _check_local_path,
)
LocalPath = Annotated[str, LOCAL_PATH]
"""File or folder on the operator's machine."""


def _check_migrate(value: str) -> Hint | bool:
    if not value.isprintable() or len(value) > 1000:
        return False
    try:
        words = shlex.split(value)
        lexer = shlex.shlex(value, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        operators = [word for word in lexer if re.fullmatch(r"[();<>|&]+", word)]
    except ValueError:
        return "close the quote"
    if operators and not any(word in words for word in ("-c",)):
        return f"it has {operators[0]}, but runs without a shell: write one command, or sh -c '…'"
    return bool(words) and not words[0].startswith("-")


Command = Annotated[
    str,
    Narrow(
        '"auto", or one command with its arguments',
        'write "auto", None, or a command such as "alembic upgrade head"',
        _check_migrate,
    ),
]
"""A command line, split as a shell splits words and run without one."""


def _check_hook(value: str) -> Hint | bool:
    if value.strip() == "auto":
        return 'write the command, or None; "auto" is for migrate alone'
    return _check_migrate(value)


HookCommand = Annotated[
    str,
    Narrow(
        "one command with its arguments",
        'write None, or a command such as "bin/after-switch --quick" or "python -m notes.warm_up"',
        _check_hook,
    ),
]
"""A command line of the app's own, split as a shell splits words and run without one."""


def _check_release(value: str) -> Hint | bool:
    return _matches(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")(value)


ReleaseRef = Annotated[
    str,
    Narrow(
        "a release's id, its beginning, or the beginning of its commit: letters, digits and hyphens",
        "write it as the host lists it, such as 20261121T034900Z-abcdef0 or abcdef0",
        _check_release,
    ),
]
"""Which of the releases on the host to go back to."""

# --- Addresses -------------------------------------------------------------------------------------------------------

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
        _matches(pattern)(value)
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
    return _matches(r"[A-Za-z0-9_][A-Za-z0-9._/@+-]{0,199}")(value)


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
        if not _matches(r"[A-Za-z0-9._~:/?=&%+@\[\]-]{1,500}")(value):
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
            and _matches(r"[A-Za-z0-9_+][A-Za-z0-9_+-]*(?:\.[A-Za-z0-9_+-]+)*@[^@]+")(value)
            and "." in value.partition("@")[2]
            and "*" not in value
            and _check_host_name(value.partition("@")[2]) is True
        ),
    ),
]
"""E-mail address."""


def _check_network(value: str) -> Hint | bool:
    if not _matches(r"[0-9A-Fa-f.:]{2,45}(?:/[0-9]{1,3})?")(value):
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
        _matches(r"[A-Za-z][A-Za-z0-9-]{0,63}"),
    ),
]
"""Name of an HTTP header."""

HeaderValue = Annotated[
    str,
    Narrow(
        'the value of a header: one line of ASCII without ", \\ and $',
        "write it as browsers should get it, such as \"default-src 'self'; object-src 'none'\"",
        _matches(r"[!#%-,./-\[\]-~](?:[ !#%-\[\]-~]{0,3998}[!#%-\[\]-~])?"),
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
        _matches(r"[1-9][0-9]{0,5}r/[sm]"),
    ),
]
"""Requests a second or a minute."""

KeyId = Annotated[
    str,
    Narrow(
        "the key identifier your CA gave you, of letters, digits and . _ ~ + / = : -",
        "copy it from the CA's account page",
        _matches(r"[A-Za-z0-9_][A-Za-z0-9._~+/=:-]{0,299}"),
        secret=True,
    ),
]
"""Identifier of an external account binding key; hidden, because people mix it up with the key."""

UvVersion = Annotated[
    str,
    Narrow(
        'a uv release as "major.minor.patch"', 'write it such as "0.13.8"', _matches(r"[0-9]{1,3}(?:\.[0-9]{1,3}){2}")
    ),
]
"""A release of uv."""

Sha256 = Annotated[
    str,
    Narrow(
        "64 lower-case hexadecimal digits", "copy the SHA-256 that PyPI shows for the wheel", _matches(r"[0-9a-f]{64}")
    ),
]
"""A SHA-256."""

Architecture = Annotated[
    str,
    Narrow(
        'an architecture, "x86_64" or "aarch64"',
        "write what uname -m prints on the host",
        _matches(r"x86_64|aarch64"),
    ),
]
"""A machine's architecture as `uname -m` prints it."""
