"""What others wrote, as it is shown: nothing steers a terminal, on either side, and no secret of an app's is told."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from slipway_host import text as host_text

from slipway import foreign
from slipway.cli.screen import Screen
from slipway.engine.plan import Change
from slipway.settings import Settings, placeholder

SIDES: dict[str, Any] = {"host": host_text, "operator": foreign}
HOST = Path(host_text.__file__).parents[1]


@pytest.fixture(params=SIDES)
def side(request: pytest.FixtureRequest) -> Any:
    """The filter of one side."""
    return SIDES[request.param]


# ── what steers a terminal ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer, 日本 🙂", "plain, größer, 日本 🙂"),
        ("two\nlines\tand a tab\n", "two\nlines\tand a tab\n"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x1b[2J\x1b[31mred", "\\x1b[2J\\x1b[31mred"),
        ("\x9b2J \x90q\x9c \x85next", "\\x9b2J \\x90q\\x9c \\x85next"),
        ("\x00\x08\x0b\x0c\x7f", "\\x00\\x08\\x0b\\x0c\\x7f"),
        ("safe\u202etxt.exe\u202c \u2066x\u2069", "safe\\u202etxt.exe\\u202c \\u2066x\\u2069"),
        ("\u200b\u200e\u200f\ufeff\u2060\xad", "\\u200b\\u200e\\u200f\\ufeff\\u2060\\xad"),
        ("a\u2028b\u2029c", "a\\u2028b\\u2029c"),
        ("\U000e0041 \udc9b", "\\U000e0041 \\udc9b"),
        (" 10 %\r 50 %\r100 %\ndone\r\n", "100 %\ndone\n"),
        ("half a bar\r", "half a bar"),
    ],
)
def test_what_steers_a_terminal_is_written_out(side: Any, text: str, shown: str) -> None:
    assert side.visible(text) == shown
    assert side.visible(shown) == shown, "once is enough"


def test_nothing_that_unicode_calls_control_or_format_is_left(side: Any) -> None:
    kept = [
        f"{number:x}"
        for number in range(sys.maxunicode + 1)
        if unicodedata.category(chr(number)) in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        and number not in {0x09, 0x0A, 0x0D}
        and side.visible(chr(number)) == chr(number)
    ]
    assert kept == []


def test_one_line_stays_one_line(side: Any) -> None:
    forged = "harmless\rdeadbee forged\nsecond\u2028third\x85fourth\tend"
    assert side.one_line(forged) == "harmless\\x0ddeadbee forged\\x0asecond\\u2028third\\x85fourth end"


def test_a_program_of_the_host_prints_nothing_else(tmp_path: Path) -> None:
    """Whoever prints there, an uncaught error and the last words included."""
    script = (
        f"import sys; sys.path.insert(0, {str(HOST)!r})\n"
        "from slipway_host.text import Hidden, outlet, tell\n"
        "hidden = Hidden()\n"
        "outlet(hidden)\n"
        "hidden.hide(['s3cr3t-value'])\n"
        "print('out \\x1b[2J s3cr3t-value')\n"
        "sys.stdout.write('raw \\u202e\\n')\n"
        "tell({'key': 's3cr3t-value \\x1b'})\n"
        "print('err \\x9b', file=sys.stderr)\n"
        "sys.exit('last \\x1b]0;t\\x07 s3cr3t-value')\n"
    )
    environment = {"PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, env=environment, check=False)
    assert done.stdout.decode() == 'out \\x1b[2J ***\nraw \\u202e\n{"key": "s3cr3t-value \\u001b"}\n'
    assert done.stderr.decode() == "err \\x9b\nlast \\x1b]0;t\\x07 ***\n"
    assert done.returncode == 1


def test_a_change_can_always_be_shown() -> None:
    change = Change(
        "migration", "0003 of \x1b[2Jnotes", "run", "ALTER\x1b]52;c;x\x07\nTABLE\u202e", "first\nsecond\x1b"
    )
    assert change.line == "will run migration 0003 of \\x1b[2Jnotes: first\\x0asecond\\x1b"
    assert change.diff == "ALTER\\x1b]52;c;x\\x07\nTABLE\\u202e"


def test_a_screen_prints_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    screen = Screen("apply", "slipway apply x", planning=False, quiet=False)
    screen._echo("[web] \x1b[31mour red\x1b[0m, \x1b]52;c;aGk=\x07 and \x1b[2J\u202e")
    screen._echo("[web]  50 %\r100 %")
    screen.console.print("direct \x9b")
    told = capsys.readouterr().err
    assert told == "  our red, \\x1b]52;c;aGk=\\x07 and \\x1b[2J\\u202e\n  100 %\ndirect \\x9b\n"


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def hidden(value: str, said: str, name: str = "SETTING", names: list[str] | None = None) -> str:
    """What is shown of `said` where the environment has this variable."""
    return host_text.Hidden().shown(said, host_text.secrets_of({name: value}, names, "notes"))


URL = "postgresql+psycopg://app:p%40ss%2Fword@127.0.0.1:5432/notes"


PEM = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq/w\nAb12Cd34\n-----END KEY-----\n"


@pytest.mark.parametrize(
    ("value", "said", "shown"),
    [
        (URL, f"ValueError: wrong: '{URL}'", "ValueError: wrong: '***'"),
        (URL, "as p%40ss%2Fword, p%40ss%2fword and p@ss/word", "as ***, *** and ***"),
        (URL, "twice p%2540ss%252Fword, and p%40ss/word", "twice ***, and ***"),
        ("postgresql+psycopg_async://app:hunter-22x@db/n", "with hunter-22x", "with ***"),
        (URL, "user app, postgresql on 127.0.0.1:5432", "user app, postgresql on 127.0.0.1:5432"),
        (URL, "cut p%40ss%2F... and p%40ss%2Fwo\nrd@127", "cut ***... and ***\nrd@127"),
        (URL, "postgresql+psycopg://app:p%40ss...%2Fword@127", "postgresql+psycopg://app:***...***@127"),
        ("a-value with 3 words", "see a-value with 3 words!", "see ***!"),
        ("sk-live-1234567890", "| sk-live-1234567890 | 'sk-live-12345…'", "| *** | '***…'"),
        ('quo"ted\\back-1', 'repr \'quo"ted\\\\\\\\back-1\' "quo\\"ted\\\\back-1"', None),
        ("-----BEGIN KEY-----\\nMIIEvQIBADANBgkq\\nAAAAAAAAAAAAAAAA", "x\nMIIEvQIBADANBgkq\ny", "x\n***\ny"),
        (PEM, f"printed: {PEM} end", "printed: ***\n***\n***\n***\n end"),
        (PEM, "  -----BEGIN KEY-----\n  MIIEvQIBADANBgkq/w\n  Ab12Cd34\nend", "  ***\n  ***\n  ***\nend"),
        (
            PEM,
            '{"key": "-----BEGIN KEY-----\\nMIIEvQIBADANBgkq/w\\nAb12Cd34\\n-----END KEY-----\\n"}',
            '{"key": "***\\n"}',
        ),
        (PEM, r'"-----BEGIN KEY-----\nMIIEvQIBADANBgkq\/w\nAb12Cd34\n-----END KEY-----\n"', r'"***\n"'),
        (
            PEM,
            r'"{\"key\": \"-----BEGIN KEY-----\\nMIIEvQIBADANBgkq/w\\nAb12Cd34\\n-----END KEY-----\\n\"}"',
            r'"{\"key\": \"***\\n***\\n***\\n***\\n\"}"',
        ),
        (PEM, 'cut "-----BEGIN KEY-----\\nMIIEvQIBADAN...', 'cut "***...'),
        ('{"private": {"password": "hunter-22x"}, "kind": "info"}', "hunter-22x of info", "*** of info"),
        ("host=db user=app password='two words1' sslmode=disable", "got two words1", "got ***"),
        ("https://0123456789abcdef0123@o1.ingest.example.com/7", "key 0123456789abcdef0123", "key ***"),
        ("https://hooks.example.com/T00/B00XXXXXXXXXXXXXXX1", "at B00XXXXXXXXXXXXXXX1", "at ***"),
        ("redis://cache/0?password=opensesame", "with opensesame", "with ***"),
    ],
)
def test_what_is_secret_of_a_value(value: str, said: str, shown: str | None) -> None:
    told = hidden(value, said)
    assert value not in told
    assert shown is None or told == shown


def test_a_short_line_of_a_secret_is_hidden_with_the_secret_alone() -> None:
    """A brace of JSON that was written in several lines stands in many a text."""
    value = json.dumps({"private_key": PEM, "id": {"a": 1}}, indent=1)
    secrets = host_text.secrets_of({"CREDENTIALS": value})
    assert host_text.masked('ERROR {"b": [1]}', secrets) == 'ERROR {"b": [1]}'
    for text in (value, json.dumps(value), repr(value), value.replace("\n", "\r\n"), PEM, repr(PEM), json.dumps(PEM)):
        shown = host_text.masked(text, secrets)
        assert "MIIE" not in shown and "Ab12Cd34" not in shown, shown


def test_a_value_of_several_lines_is_read_back_and_hidden() -> None:
    from slipway.settings import render_env

    text = render_env({"KEY": PEM, "Z_TOKEN": "after-the-key-1"})
    values = host_text.read_environment(text + 'RELEASE_ID="r1"\n')
    assert values == {"KEY": PEM, "Z_TOKEN": "after-the-key-1", "RELEASE_ID": "r1"}
    known = host_text.Hidden()
    known.hide(host_text.secrets_of(values, ["KEY", "Z_TOKEN"], "notes"))
    told = json.dumps({"key": PEM, "token": "after-the-key-1"})
    assert known.shown(told) == '{"key": "***\\n", "token": "***"}'
    assert known.shown(repr({"key": PEM})) == "{'key': '***\\n'}"
    assert known.shown(f"{PEM}after") == "***\n***\n***\n***\nafter"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG_LEVEL", "info"),
        ("LOG_LEVEL", "critical-2"),
        ("APP_ENV", "staging-7"),
        ("DEBUG", "true"),
        ("PORT", "8000"),
        ("LIMIT", "1048576"),
        ("STAGE", "production"),
        ("FOLDER", "/var/lib/notes"),
        ("LANG", "en_US.UTF-8"),
        ("API_KEY", "short"),
        ("SECRET", "disabled"),
        ("SECRET_NAME", "notes"),
        ("DATABASE_URL", "postgresql://notes@127.0.0.1/notes"),
        ("DATABASE_URL", "sqlite+aiosqlite:////var/lib/notes/notes.db"),
        ("BASE", "https://notes.example.com/api/v1"),
        ("EMPTY", ""),
    ],
)
def test_what_is_ordinary_is_shown(name: str, value: str) -> None:
    assert hidden(value, f"said {value} there", name) == f"said {value} there"


@pytest.mark.parametrize(
    ("name", "value"),
    [("DB_PASSWORD", "postgres"), ("SIGNING_KEY", "correcthorse"), ("PIN_TOKEN", "12345678")],
)
def test_the_name_makes_an_ordinary_value_secret(name: str, value: str) -> None:
    assert hidden(value, f"said {value} there", name) == "said *** there"
    assert hidden(value, f"a {value}ql database", name).startswith("a ")


def test_a_short_word_is_no_part_of_a_longer_one() -> None:
    assert hidden("postgres", "postgresql, and postgres", "DB_PASSWORD") == "postgresql, and ***"


def test_what_is_no_secret_by_its_name_is_shown() -> None:
    said = "GREETING is hello-world-42"
    assert hidden("hello-world-42", said, "GREETING", names=["TOKEN"]) == said
    assert hidden("hello-world-42", said, "GREETING", names=["GREETING"]) == "GREETING is ***"


def test_an_environment_is_read_as_it_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    from slipway.settings import render_env

    values = {"A": 'x"y\\z`$HOME', "B": "", "C": " padded ", "URL": URL, "JSON": '{"a": "b"}'}
    assert host_text.read_environment(render_env(values)) == values


@pytest.mark.parametrize(
    ("value", "stands"),
    [
        (URL, "postgresql+psycopg://localhost/placeholder"),
        ("sqlite+aiosqlite:////var/lib/notes/notes.db", "sqlite+aiosqlite://"),
        ("8000", "1"),
        ("TRUE", "false"),
        ('{"key": "x"}', "{}"),
        ('["x"]', "[]"),
        ("hunter2", "placeholder"),
        ("", "placeholder"),
    ],
)
def test_a_placeholder_is_of_the_kind_and_nothing_of_the_value(value: str, stands: str) -> None:
    assert placeholder(value) == stands


def test_the_host_is_told_names_alone(maximal: Settings) -> None:
    app = maximal.apps["notes"]
    assert {"DATABASE_URL", "DATABASE_URL_SYNC"} <= app.secret_names
    assert not app.secret_names & app.env.keys() - {"DATABASE_URL"}
    assert not any(value in json.dumps(sorted(app.secret_names)) for value in app.secret_values)


def test_nothing_is_said_of_a_stream_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a test's or a caller's own making, say: it stays as it is."""
    kept = io.StringIO()
    monkeypatch.setattr(sys, "stdout", kept)
    monkeypatch.setattr(sys, "stderr", kept)
    host_text.outlet(host_text.Hidden())
    host_text.tell({"a": 1})
    assert sys.stdout is kept and kept.getvalue() == '{"a": 1}\n'


# ── a text that is meant to take long ────────────────────────────────────────────────────────────────────────────────


def plainly_without_cut(text: str, secret: str) -> str:
    """What `_without_cut` says, written so as to be easy to judge: it takes a square of the text's length."""

    def common(one: str, other: str) -> int:
        most = min(len(one), len(other))
        return next((at for at in range(most) if one[at] != other[at]), most)

    part, start, end = host_text.PART, 0, 0
    while (start := text.find(secret[:part], start)) >= 0:
        length = common(text[start:], secret)
        stop = start + length
        if host_text._telling(text[start:stop]) and re.compile(r"[ \t]*(?:$|\.\.\.|…)", re.MULTILINE).match(text, stop):
            text = text[:start] + host_text.HIDDEN + text[stop:]
        start += len(host_text.HIDDEN)
    end = len(text)
    while (end := text.rfind(secret[-part:], 0, end)) >= 0:
        stop = end + part
        begin = stop - common(text[:stop][::-1], secret[::-1])
        line = text[text.rfind("\n", 0, begin) + 1 : begin]
        if host_text._telling(text[begin:stop]) and re.search(r"(?:^[\s|>#+-]*|\.\.\.|…)\Z", line):
            text = text[:begin] + host_text.HIDDEN + text[stop:]
            end = begin
    return text


def test_what_was_cut_of_a_secret_is_found_as_plainly_as_can_be() -> None:
    chance, hidden_some = random.Random(4), 0
    for _ in range(6000):
        letters = chance.choice(["ab", "ab1", "ab1\n", "a1. \n", "ab …|\n", "aA1 \t.-\n"])
        secret = "".join(chance.choices(letters, k=chance.randint(7, chance.choice([8, 14, 40]))))
        pieces = []
        for _ in range(chance.randint(0, 8)):
            at = chance.randint(0, len(secret))
            loose = "".join(chance.choices(letters, k=4))
            pieces.append(chance.choice([secret, secret[:at], secret[at:], "...", "…", "\n", " \t", "> ", loose]))
        text = "".join(pieces)
        expected = plainly_without_cut(text, secret)
        assert host_text._without_cut(text, secret) == expected, (text, secret)
        hidden_some += expected != text
    assert hidden_some > 500


LONG = "sk-live-51Habcdef0123456789xyz"


@pytest.mark.parametrize(
    "piece",
    [
        LONG[-6:],
        LONG[:6],
        f"{LONG[:12]}\n",
        f"...{LONG[-12:]}",
        f"> {LONG[-12:]}\n",
        "...",
        f"{LONG[:9]} ",
        f"{LONG}\n",
        "\n",
    ],
)
def test_no_text_takes_long(piece: str) -> None:
    """A step's output is up to two million bytes of an app's choice, and a release waits for it."""
    took = []
    for size in (60_000, 480_000):
        began = time.process_time()
        host_text.Hidden().shown(piece * (size // len(piece)), [LONG])
        took.append(time.process_time() - began)
    assert took[1] < max(0.2, 30 * took[0]), took
    assert took[1] < 3
