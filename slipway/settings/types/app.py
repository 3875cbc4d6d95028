"""What an app says of itself: its object, Python, paths, commands and releases."""

from __future__ import annotations

import ast
import datetime
import re
import shlex
from typing import Annotated

from pydantic import AfterValidator

from slipway.servers import LEFT_OUT, SERVERS
from slipway.settings.types.narrow import Hint, Narrow, matches

_DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_ARGUMENTS = re.compile(r"\([A-Za-z0-9_'., =+:/@-]*\)", re.ASCII)
"""What may stand in a unit as it is."""


def _application(value: str) -> str | None:
    """An application as a release names it: a call's arguments as Python writes them. None if it can't be one."""
    named, mark, arguments = value.partition("(")
    if not re.fullmatch(f"{_DOTTED}:{_DOTTED}", named, re.ASCII):
        return None
    if not mark:
        return named
    try:
        call = ast.parse(f"f({arguments}", mode="eval").body
        if not isinstance(call, ast.Call):
            return None
        for each in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(each)
    except (SyntaxError, ValueError):
        return None
    written = ast.unparse(call)[1:]
    return f"{named}{written}" if _ARGUMENTS.fullmatch(written) else None


def _check_application(value: str) -> Hint | bool:
    if re.fullmatch(_DOTTED, value, re.ASCII):
        return f'add the attribute after a colon, such as "{value}:app"'
    if _application(value) is not None:
        return True
    if value.endswith(")"):
        return "give the function literals alone, such as \"notes:create_app('production')\""
    return False


Application = Annotated[
    str,
    AfterValidator(lambda value: _application(value) or value),
    Narrow("an application as module:attribute", 'write it such as "notes.main:app", without .py', _check_application),
]
"""Import path of an application, or of what makes it, with its arguments."""


def _check_server(value: str) -> Hint | bool:
    if value in LEFT_OUT:
        return f"{_SERVERS}: {LEFT_OUT[value]}"
    return value in SERVERS


_SERVERS = "write one of " + ", ".join(f'"{each}"' for each in SERVERS)
ServerName = Annotated[str, Narrow(_SERVERS.removeprefix("write "), _SERVERS, _check_server)]
"""Name of a server."""


def _check_day(value: str) -> bool:
    try:
        return datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


_REQUIREMENT = r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?(?:\[[\w.-]+(?:,[\w.-]+)*\])?(?:(?:[<>=!~]=?|===)[\w.*+!-]+(?:,|$))*"
Requirement = Annotated[
    str,
    Narrow(
        "a package, with or without extras and versions",
        'write it as "pymysql", "psycopg[binary]" or "setuptools<81"',
        matches(_REQUIREMENT),
    ),
]
"""A package as pip names it, without marker and address."""

Day = Annotated[str, Narrow('a day as "2022-12-31"', 'write year, month and day, such as "2022-12-31"', _check_day)]
"""A day of the calendar."""

PythonVersion = Annotated[
    str,
    Narrow(
        'a Python version from "3.10" to "3.14", with or without a patch number',
        'write a string such as "3.13" or "3.13.5"',
        matches(r"3\.1[0-4](?:\.(?:0|[1-9][0-9]?))?"),
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
    return matches(r"/[A-Za-z0-9._~/-]{0,200}")(value)


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
    if matches(r"(?:[A-Za-z0-9._~=&+,:@-]|%[0-9A-Fa-f]{2}){1,500}")(query):
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

FilePath = Annotated[
    str,
    Narrow(
        "a file inside the app's folder: letters, digits and . _ + - /",
        'write it such as "db/alembic.ini"',
        _check_inner_path,
    ),
]
"""File within the app's folder."""

Subdir = Annotated[
    str,
    Narrow(
        "a folder inside the source: letters, digits and . _ + - /, or empty for its root",
        'write it such as "services/notes", or ""',
        _check_subdir,
    ),
]
"""Folder within a source."""


def _check_lock_path(value: str) -> Hint | bool:
    while value.startswith("../"):
        value = value[3:]
    return _check_inner_path(value)


LockPath = Annotated[
    str,
    Narrow(
        "a lock file's path, from the app's folder on: letters, digits and . _ + - /",
        'write it such as "requirements/production.txt"',
        _check_lock_path,
    ),
]
"""Path of a lock file in a source."""


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


def _check_build(value: str) -> Hint | bool:
    verdict = _check_hook(value)
    if verdict is True and all(re.match(r"[A-Za-z_]\w*=", word, re.ASCII) for word in shlex.split(value)):
        return "write a command behind the variables"
    return verdict


BuildCommand = Annotated[
    str,
    Narrow(
        "one command with its arguments",
        'write a command such as "npm run build" or "python manage.py collectstatic --noinput"',
        _check_build,
    ),
]
"""A command line of a build, split as a shell splits words and run without one."""


def _check_shared_file(value: str | dict[str, bool]) -> Hint | bool:
    return value == {"writable": True} if isinstance(value, dict) else _check_local_path(value)


SharedFile = Annotated[
    str | dict[str, bool],
    Narrow(
        'a file on this machine, relative to the inventory, or {"writable": True}',
        'write the file\'s name, or {"writable": True} for a file that the app writes',
        _check_shared_file,
    ),
]
"""A file that isn't from the app's source: the operator's, or one that the app writes."""


def _check_release(value: str) -> Hint | bool:
    return matches(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}")(value)


ReleaseRef = Annotated[
    str,
    Narrow(
        "a release's id, its beginning, or the beginning of its commit: letters, digits and hyphens",
        "write it as the host lists it, such as 20261121T034900Z-abcdef0 or abcdef0",
        _check_release,
    ),
]
"""The release on the host to roll back to."""
