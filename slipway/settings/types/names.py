"""Names: of apps, users, variables, hosts, packages, time zones; and the keys of people."""

from __future__ import annotations

import base64
import difflib
import ipaddress
import re
import zoneinfo
from typing import Annotated

from slipway.settings import environment, names
from slipway.settings.types.narrow import Hint, Narrow, matches


def _check_app_name(value: str) -> Hint | bool:
    if re.fullmatch(r"[a-z][a-z0-9-]{0,29}", value, re.ASCII) is None:
        return False
    if names.reserved_app(value):
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


def _check_program(value: str) -> Hint | bool:
    if value == "web":
        return "choose another name: web is the process that answers requests"
    return re.fullmatch(r"[a-z][a-z0-9-]{0,29}", value, re.ASCII) is not None


ProgramName = Annotated[
    str,
    Narrow(
        "a name of 1 to 30 lower-case letters, digits and hyphens that starts with a letter",
        "choose a name such as worker; its units are called after it",
        _check_program,
    ),
]
"""Name of a process or of a job of an app."""


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
    if value in names.RESERVED_LOGINS:
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
    if environment.NAME.fullmatch(value) is None:
        return False
    return names.reserved_variable(value) or True


VARIABLE = Narrow(
    "a variable's name: letters, digits and underscores, not starting with a digit, and not reserved",
    "rename the variable, in the app too",
    _check_variable,
)

Variable = Annotated[str, VARIABLE]
"""Name of an environment variable that an inventory may set."""


def _check_plain(value: str | int | float | bool) -> Hint | bool:
    if isinstance(value, float) and not isinstance(value, bool):
        return environment.fit_number(value)
    if isinstance(value, str) and (reason := environment.unfit_value(value)):
        return unfit_hint(reason)
    return True


def unfit_hint(reason: str) -> Hint:
    """What to do about a variable's value with `reason` in it."""
    if reason == "a carriage return":
        return f"it has {reason}, as files of Windows have: end its lines with a line feed alone (dos2unix)"
    return f"it has {reason}: encode the value (base64) and decode it in the app"


VARIABLE_VALUE = Narrow(
    "text, a number, True or False", "write a string, a number, True or False", _check_plain, secret=True
)

VariableValue = Annotated[str | int | float | bool, VARIABLE_VALUE]
"""Value of an environment variable; any text without control characters; it may have tabs and several lines."""

VariableRef = Annotated[
    str,
    Narrow(
        "the name of a variable in env_file",
        "write the variable's name alone, such as SECRET_KEY",
        matches(environment.NAME.pattern),
    ),
]
"""Name of a variable that a ``.env`` must have."""

SecretRef = Annotated[
    str,
    Narrow(
        "the name of a variable in the host's env_file",
        "write the variable's name such as EAB_HMAC_KEY here, and the key itself in env_file",
        matches(environment.NAME.pattern),
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


def check_host_name(value: str) -> Hint | bool:
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
        return "write it in lower case" if check_host_name(value.lower()) is True else False
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
    if encoded and check_host_name(encoded) is True:
        return f"write it in punycode: {encoded}"
    return "write it in punycode (xn--…)"


DOMAIN = Narrow(
    "a host name in lower-case ASCII, such as notes.example.com",
    "write a name of letters, digits, hyphens and dots; no part starts or ends with a hyphen",
    check_host_name,
)

Domain = Annotated[str, DOMAIN]
"""Name the app answers to."""


def _check_machine_name(value: str) -> Hint | bool:
    if len(value) > 64:
        return f"shorten it: it has {len(value)} characters, Linux allows 64"
    return False if "*" in value else check_host_name(value)


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
        matches(r"[a-z0-9][a-z0-9+.-]{1,100}"),
    ),
]
"""Name of a Debian package."""


def _check_timezone(value: str) -> Hint | bool:
    if matches(r"[A-Za-z][A-Za-z0-9_+-]{0,30}(?:/[A-Za-z][A-Za-z0-9_+-]{0,30}){0,2}")(value) is False:
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
