"""Whatever is accepted can't leave its place in nginx's, systemd's or a shell's files."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from slipway.settings import SettingsError, load, render_env
from slipway.settings import types as t
from slipway.settings.environment import parse_env, unfit_value
from tests.unit.settings.test_settings import MODELS

settings.register_profile("slipway", deadline=None, database=None)  # slow machines, and no .hypothesis folder
settings.load_profile("slipway")

SPECIAL = "\0\t\n\r\x0b\x1b\x7f\x85\xa0\u2028\u202e;{}$`'\"\\|&<>()#!*?[]^%@:=, ~+/._-"
TEXTS = st.one_of(
    st.text(max_size=60),
    st.text(alphabet=string.ascii_lowercase + string.digits + SPECIAL, max_size=60),
    st.text(alphabet="ab01:/.-@" + "\n;$ ", max_size=20),
)
"""Anything, and mostly what means something somewhere."""

BREAKS_NGINX = set("\0\t\n\r;{}$'\"\\# ")
BREAKS_UNITS = set("\0\n\r\"'\\% $")
BREAKS_SHELL = set("\0\n\r\t;&|<>()$`\\\"'*?[]#!{} ~")

CASES: list[tuple[str, Any, set[str], list[str]]] = [
    ("app name", t.AppName, BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL | set("/.@"), ["notes"]),
    ("domain", t.Domain, (BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL | set("/:@")) - {"*"}, ["a.example.com"]),
    ("host name", t.MachineName, BREAKS_UNITS | BREAKS_SHELL, ["web1"]),
    ("application", t.Application, BREAKS_UNITS | BREAKS_SHELL, ["notes.main:app"]),
    ("health path", t.UrlPath, (BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL) - {"~"}, ["/healthz"]),
    ("path with query", t.UrlTarget, set("\0\t\n\r;{}$'\"\\# `|<>()*[]^!"), ["/healthz", "/search?q=a%20b&n=1"]),
    ("static url", t.UrlPrefix, (BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL) - {"~"}, ["/static/"]),
    ("static folder", t.InnerPath, BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL, ["src/static"]),
    ("subdir", t.Subdir, BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL, ["services/notes"]),
    ("size", t.BodySize, BREAKS_NGINX, ["10m"]),
    ("journal size", t.JournalSize, BREAKS_UNITS, ["1G"]),
    ("umask", t.Umask, BREAKS_UNITS | BREAKS_SHELL, ["0027"]),
    ("Python", t.PythonVersion, BREAKS_UNITS | BREAKS_SHELL, ["3.13.5"]),
    ("uv", t.UvVersion, BREAKS_UNITS | BREAKS_SHELL, ["0.13.8"]),
    ("network", t.Network, BREAKS_NGINX, ["10.0.0.0/8", "2400:cb00::/32"]),
    ("header", t.HeaderName, BREAKS_NGINX, ["X-Real-IP"]),
    ("header's value", t.HeaderValue, set('\0\t\n\r"\\$'), ["default-src 'self'; object-src 'none'", "DENY"]),
    ("HSTS", t.Hsts, set("\0\t\n\r\"\\$'"), ["max-age=63072000; includeSubDomains"]),
    ("rate", t.Rate, BREAKS_NGINX, ["10r/m"]),
    ("git", t.GitUrl, (BREAKS_UNITS | BREAKS_SHELL) - set("~%"), ["git@git.example.com:a/b.git"]),
    ("ref", t.GitRef, BREAKS_UNITS | BREAKS_SHELL | set(":^"), ["release/v1@2"]),
    ("ACME directory", t.AcmeUrl, set("\0\n\r\t \"'\\`$;|<>(){}#*!"), ["https://acme.example.com/directory"]),
    ("index", t.WebUrl, set("\0\n\r\t \"'\\`$;|<>(){}#*!"), ["https://pypi.example.com/simple"]),
    ("mirror", t.FileUrl, set("\0\n\r\t \"'\\`$;|<>(){}#*!"), ["file:///srv/mirror"]),
    ("e-mail", t.Email, BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL, ["ops@example.com"]),
    ("key identifier", t.KeyId, (BREAKS_UNITS | BREAKS_SHELL) - {"~"}, ["kid-1"]),
    ("package", t.Package, BREAKS_UNITS | BREAKS_SHELL, ["libpq5"]),
    ("login", t.Login, BREAKS_UNITS | BREAKS_SHELL | set(",:=@."), ["alice"]),
    ("time zone", t.Timezone, BREAKS_UNITS | BREAKS_SHELL, ["Etc/UTC"]),
    ("variable", t.Variable, BREAKS_UNITS | BREAKS_SHELL | {"="}, ["LOG_LEVEL"]),
    ("local path", t.LocalPath, set("\0\n\r\t"), ["../key"]),
    ("command", t.Command, set("\0\n\r\t"), ["alembic upgrade head"]),
    ("hook", t.HookCommand, set("\0\n\r\t"), ["bin/after-switch --quick"]),
    ("release", t.ReleaseRef, BREAKS_NGINX | BREAKS_UNITS | BREAKS_SHELL | set("/.@_"), ["20261121T034900Z-abcdef0"]),
]
HAVE_DOTS = (t.AcmeUrl, t.WebUrl, t.FileUrl, t.GitUrl, t.KeyId, t.HeaderValue)
"""What no path on the host is made from."""


def accepted(kind: Any, value: object) -> bool:
    """Whether a narrow type takes `value`."""
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(("kind", "forbidden", "good"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_nothing_accepted_leaves_its_place(kind: Any, forbidden: set[str], good: list[str]) -> None:
    """No forbidden character, nothing outside ASCII where ASCII is meant, no leading hyphen, no way upwards."""
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    for value in good:
        assert adapter.validate_python(value, strict=True) == value
    near = st.builds(
        lambda base, extra, at: base[: at % (len(base) + 1)] + extra + base[at % (len(base) + 1) :],
        st.sampled_from(good),
        TEXTS.map(lambda text: text[:5]),
        st.integers(0, 100),
    )

    @given(st.one_of(TEXTS, near))
    @example(good[0] + "\n")
    @example(" " + good[0])
    @example("-" + good[0])
    @example(good[0] + "/../x")
    def check(value: str) -> None:
        try:
            taken = adapter.validate_python(value, strict=True)
        except ValidationError:
            return
        assert taken == value
        assert not forbidden & set(value)
        if kind not in (t.LocalPath, t.Command, t.HookCommand):
            assert value.isascii()
            assert ".." not in value.split("/") or kind in HAVE_DOTS
        if kind is not t.LocalPath:
            assert not value.startswith("-")

    check()


# --- Any inventory at all ---------------------------------------------------------------------------------------------

WORDS = [name for model in MODELS for name in model.model_fields] + ["notes", "A", "x y", "-", "\n"]
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(WORDS) | TEXTS
KEYS = st.sampled_from(WORDS) | st.integers()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


def message_of(data: Any) -> str:
    """What `load` says about `data`; nothing where it is good. Any other error is the test's failure."""
    try:
        load(data, inventory=Path("/nonexistent/inventory.py"), host="h")
    except SettingsError as error:
        return str(error)
    return ""


@example(data={2**63: {}}, option="apps", value=None)
@given(data=TREES, option=st.sampled_from(WORDS), value=TREES)
def test_no_inventory_ends_in_a_traceback(data: Any, option: str, value: Any) -> None:
    """Settings or a SettingsError, whatever stands there; and no value of env or of an unknown key in it."""
    secret = "s3cret-s3cret"
    app = {"domains": ["a.example.com"], "source": {"git": "https://g.example.com/a"}, "app": "a:b"}
    extra = {"env": {"A B": secret, "OK": f"{secret}\r\n", "HOME": secret}, "SECRET": secret}
    whole = {"apps": {"notes": app | {option: value}}, option: data}
    for tree in (data, whole, {"apps": {"notes": app | extra | {option: value}}}):
        assert secret not in message_of(tree)


# --- The environment file --------------------------------------------------------------------------------------------

NAMES = st.from_regex(re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,20}", re.ASCII), fullmatch=True)
VALUES = st.one_of(TEXTS, st.text(alphabet="\"'\\$`%! \tä🚀", max_size=20)).filter(lambda value: not unfit_value(value))


def read_by_systemd(text: str) -> dict[str, str]:
    """What systemd reads from an environment file: src/basic/env-file.c, for lines that begin with a name.

    Checked against systemd 257 itself with thousands of generated values.
    """
    result: dict[str, str] = {}
    position = 0
    while position < len(text):
        name, _, rest = text[position:].partition("=")
        position += len(name) + 1
        assert rest.startswith('"')
        position += 1
        value = ""
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                escaped = text[position]
                value += escaped if escaped in '"\\`$' else "" if escaped == "\n" else "\\" + escaped
            else:
                value += text[position]
            position += 1
        assert text[position + 1] == "\n"
        position += 2
        if not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):  # a value with these is dropped
            result[name] = value
    return result


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_environment_file_round_trip(environment: dict[str, str]) -> None:
    """systemd reads back exactly what was written."""
    assert read_by_systemd(render_env(environment)) == environment


@given(st.dictionaries(NAMES, VALUES, max_size=5))
def test_dotenv_round_trip(environment: dict[str, str]) -> None:
    """A value in single quotes of a .env is read as it is."""
    quoted = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in environment.items()}
    parsed = parse_env("".join(f"{name}='{value}'\n" for name, value in quoted.items()))
    assert (parsed.values, parsed.duplicates, parsed.unreadable) == (environment, {}, [])


@given(TEXTS)
def test_values_are_refused_or_written(value: str) -> None:
    """There is no third way: what settings accept, `render_env` can write."""
    taken = accepted(t.VariableValue, value)
    assert taken is (unfit_value(value) is None)
    if taken:
        assert read_by_systemd(render_env({"A": value})) == {"A": value}
    else:
        with pytest.raises(ValueError, match="value of A"):
            render_env({"A": value})


@given(st.integers() | st.floats() | st.booleans() | st.none() | st.binary() | TEXTS)
def test_types_are_strict(value: object) -> None:
    """A number is no text, a switch is no number, and text is neither."""
    assert accepted(t.Switch, value) is isinstance(value, bool)
    fit = isinstance(value, int) and not isinstance(value, bool) and 1024 <= value <= 65535
    assert accepted(t.Port, value) is fit
    if not isinstance(value, str):
        assert not accepted(t.Umask, value)
        assert not accepted(t.Domain, value)
