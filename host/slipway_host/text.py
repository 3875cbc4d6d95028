"""Make foreign text safe to show: remove secrets, and write out characters that control a terminal.

Foreign text is the output of a command, a commit's subject, a line of a journal, an error's message. It enters through
`Hidden.shown`, and standard output shows nothing else (`outlet`).

A value is secret if it stands in the files of an app's environment or of its builds, if its name is in `secrets` of
release.json (the names from env_file; without such a list, all names), and if it isn't ordinary.

These values are ordinary, and shown:
- values shorter than `SHORT` characters, and words such as on and off;
- a URL without a password, without a parameter named like `SECRET_NAME`, and without a user, a part of its path or a
  parameter that has `RANDOM` characters or more and mixes letters and digits;
- the name of the app;
- unless the variable is named like a password, key or token (`SECRET_NAME`): numbers; words of 15 letters at most,
  joined by ``. _ / : -`` ("production", "/var/lib/notes"); and the values of variables named as in `PLAIN_NAME`
  (LOG_LEVEL, TZ, APP_ENV).

Of a secret value these parts are hidden: the whole value, the password of a URL, the values in JSON, and each line of
several that has `SHORT` characters or more. They are hidden as written, percent-decoded, percent-encoded, and as Python
or JSON quote them. A beginning or an end of `PART` characters or more is hidden, too, where the text was cut: at a
line's end, or beside "...", "…". Lines that are broken at other places than the value's own are not known again.
"""

from __future__ import annotations

import bisect
import functools
import io
import json
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

SHORT = 6  # characters: what is shorter stands in many a text by chance
RANDOM = 16
PART = 6
HIDDEN = "***"
SHORT_TEXT = 300  # characters of a path or an error's text in a message
NAMED = 5  # things that a message lists
# Patterns as texts: most runs of a program need none of them, and to compile them takes a while.
SECRET_NAME = (
    r"(?i)pass|pwd|secret|token|key|credential|private|auth|dsn|salt|signature|webhook|cookie|session|cert|phrase|pin$"
)
PLAIN_NAME = r"(?i)(?:^|_)(?:level|debug|env|environment|tz|timezone|lang|language|region|locale)$|^LC_|^PATH$"
WORDS = {"true", "false", "none", "null", "default", "enabled", "disabled", "required", "optional", "localhost"}
ORDINARY = r"[+-]?[0-9.,:_ ]+|/?[^\W\d_]{1,15}(?:[ ._/:-]+[^\W\d_]{1,15})*/?"
URL = r"[A-Za-z][A-Za-z0-9+._-]*://(?:(?P<user>[^/?#]*)@)?[^/?#@]*(?P<rest>.*)"
ASSIGNED = r"(?i)\b(?:pass\w*|pwd|secret|token|\w*key)\s*=\s*('(?:[^'\\]|\\.)*'|\"[^\"]*\"|[^\s;&]+)"
ASSIGNMENT = r'^[ \t]*([^\s#=][^\n=]*?)[ \t]*=[ \t]*(?:("(?:[^"\\]|\\[\s\S])*")[ \t\r]*$|([^\n]*))'
CUT = ("...", "…")
CUT_AFTER = r"[ \t]*(?:$|\.\.\.|…)"
CUT_BEFORE = r"[\s|>#+-]*"  # at a line's beginning

# Control characters but tab and line feed; then Unicode's format characters (bidirectional and zero-width ones, tags)
# and separators of lines; then halves of a character.
STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""A text with control characters written out, such as ``\x1b``; lines and tabs stay.

    Of a line that a progress bar drew again and again, only the last state stays.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    drawn = [next((part for part in reversed(line.split("\r")) if part), "") for line in lines]
    return STEERS.sub(_written_out, "\n".join(drawn))


def one_line(text: str) -> str:
    r"""The same for a text that must stay one line, such as a subject: line feeds are written out, too (``\x0a``)."""
    return STEERS.sub(_written_out, text).replace("\n", "\\x0a").replace("\t", " ")


def short(text: object, most: int = SHORT_TEXT) -> str:
    """A text shortened for a message: its beginning and its end."""
    text = str(text)
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


def listed(items: Sequence[object], most: int = NAMED) -> str:
    """The first of them, and how many more there are."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(map(str, items[:most])) + more


def described(error: BaseException) -> str:
    """An error in words: for an error of the system the reason and a short path, for an unforeseen one its kind, too.

    Never its `repr`: that of a decoding error contains the whole text.
    """
    if isinstance(error, OSError) and error.strerror:
        where = f": {short(os.fsdecode(error.filename))!r}" if isinstance(error.filename, (str, bytes)) else ""
        return f"[Errno {error.errno}] {error.strerror}{where}"
    if isinstance(error, UnicodeDecodeError):
        return f"{type(error).__name__}: at byte {error.start}, {error.reason}"
    return short(error if isinstance(error, OSError) else f"{type(error).__name__}: {error}")


def _written_out(match: re.Match[str]) -> str:
    number = ord(match[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


class Hidden:
    """The secrets that a process never shows."""

    def __init__(self) -> None:
        self._secrets: list[str] = []  # the longest first

    def hide(self, secrets: Iterable[str]) -> None:
        """Hide these texts from now on."""
        self._secrets = sorted({*self._secrets, *filter(str.strip, secrets)}, key=len, reverse=True)

    def shown(self, text: str, secrets: Iterable[str] = ()) -> str:
        """A foreign text, safe to show: without these secrets and those of `hide`, and `visible`."""
        return visible(masked(text, [*secrets, *self._secrets]))


def masked(text: str, secrets: Collection[str]) -> str:
    """A text without these secrets, without single lines of them, and without parts of them at a cut."""
    for part in _parts(tuple(secrets)):
        if part in text:
            # Don't look for a short word within longer ones: "postgres" would damage "postgresql".
            whole = len(part) < 2 * SHORT and part.isalnum()
            text = (
                re.sub(rf"(?:(?<![^\W_])|(?<=\\[nrt])){part}(?![^\W_])", HIDDEN, text)
                if whole
                else text.replace(part, HIDDEN)
            )
        if len(part) > PART and "://" not in part:
            text = _without_cut(text, part)
    return text


@functools.lru_cache(maxsize=4)
def _parts(secrets: tuple[str, ...]) -> list[str]:
    """Secrets and their lines, the longest first. Called for each line of a command's output.

    A line that is short, such as a brace of JSON, stands in many a text by chance.
    """
    lines = {line.strip() for secret in secrets for line in secret.splitlines()}
    parts = {*(secret.strip() for secret in secrets), *(line for line in lines if len(line) >= SHORT)} - {""}
    return sorted(parts, key=len, reverse=True)


def _without_cut(text: str, secret: str) -> str:
    """A text without beginnings of the secret before a cut, and without ends of it after a cut.

    The text may be made to take long: so each place is looked at once, not once for each part of the secret.
    """
    return _without_ends(_without_beginnings(text, secret), secret)


def _without_beginnings(text: str, secret: str) -> str:
    first, cut, done, at = secret[:PART], None, 0, 0
    kept: list[str] = []
    while (at := text.find(first, at)) >= 0:
        length = _longest(functools.partial(_begins, text, secret, at), len(secret))
        if _telling(secret[:length]):
            cut = cut or re.compile(CUT_AFTER, re.MULTILINE)
            if cut.match(text, at + length):
                kept += [text[done:at], HIDDEN]
                done = at = at + length
                continue
        at += len(HIDDEN)
    return "".join([*kept, text[done:]]) if kept else text


def _without_ends(text: str, secret: str) -> str:
    last, lines, done, end = secret[-PART:], None, len(text), len(text)
    kept: list[str] = []
    while (end := text.rfind(last, 0, end)) >= 0:  # from the right: what is left of it stays as it is
        stop = end + PART
        length = _longest(functools.partial(_ends, text, secret, stop), len(secret))
        if _telling(secret[-length:]):
            lines = lines or _Lines(text)
            if lines.cut_before(stop - length):
                kept += [text[stop:done], HIDDEN]
                done = end = stop - length
    return "".join([text[:done], *reversed(kept)]) if kept else text


def _begins(text: str, secret: str, at: int, length: int) -> bool:
    """Whether that many characters of the secret's beginning stand at this place."""
    return text.startswith(secret[:length], at)


def _ends(text: str, secret: str, stop: int, length: int) -> bool:
    """Whether that many characters of the secret's end stand before this place."""
    return text.endswith(secret[-length:], 0, stop)


def _longest(fits: Callable[[int], bool], most: int) -> int:
    """The greatest number up to `most` that fits. `PART` must fit, and every number below one that fits.

    A search by halves: few questions, and none about a number much greater than the answer.
    """
    low, high = PART, 2 * PART
    while high < most and fits(high):
        low, high = high, 2 * high
    high = min(high, most)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


class _Lines:
    """Where the lines of a text begin, and how far a mark of continuation (`CUT_BEFORE`) reaches in each."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.reach: dict[int, int] = {}
        self.begin = [0, *(found.end() for found in re.finditer("\n", text))]
        self.marks = re.compile(CUT_BEFORE)

    def cut_before(self, at: int) -> bool:
        """Whether something was cut off just before this place."""
        if self.text.endswith(CUT, 0, at):
            return True
        line = bisect.bisect_right(self.begin, at) - 1
        if line not in self.reach:
            end = self.begin[line + 1] - 1 if line + 1 < len(self.begin) else len(self.text)
            marks = self.marks.match(self.text, self.begin[line], end)
            self.reach[line] = marks.end() if marks else self.begin[line]
        return at <= self.reach[line]


def _telling(part: str) -> bool:
    """Whether a part of a secret is more than a common word."""
    return len(part) >= 2 * PART or not part.isalpha()


def read_environment(text: str) -> dict[str, str]:
    """Name → value, from an environment file that Slipway wrote for systemd; a quoted value may have several lines."""
    found: dict[str, str] = {}
    for name, quoted, plain in re.findall(ASSIGNMENT, text, re.MULTILINE):
        found[name] = re.sub(r'\\(["\\`$])', r"\1", quoted[1:-1]) if quoted else plain.strip()
    return found


def secrets_of(environment: Mapping[str, str], names: Collection[str] | None = None, app: str = "") -> set[str]:
    """All texts of an environment (name → value) to hide.

    + names: names of secrets; None for all names
    + app: its name, which is never hidden
    """
    found: set[str] = set()
    for name, value in environment.items():
        if names is None or name in names:
            found |= _texts(name, value.strip())
    return {each for text in found - {app} for each in spellings(text)}


def _texts(name: str, value: str) -> set[str]:
    """The secret parts of a value, as written; none if it is ordinary."""
    named = bool(re.search(SECRET_NAME, name))
    if len(value) < SHORT or value.lower() in WORDS or (not named and re.search(PLAIN_NAME, name)):
        return set()
    if value[0] in "{[":
        try:
            return {value, *_inner(name, json.loads(value))}
        except (ValueError, RecursionError):
            return {value}
    found = {word.strip("'\"") for word in re.findall(ASSIGNED, value)}
    url = re.fullmatch(URL, value, re.DOTALL)
    if url:
        user, colon, password = (url["user"] or "").partition(":")
        found |= {password} if colon else {user} if _random(user) else set()
        for parameter in re.split(r"[?&#;]", url["rest"])[1:]:
            key, _, given = parameter.partition("=")
            found |= {given} if re.search(SECRET_NAME, key) else set()
        found |= {part for part in re.split(r"[/?&=#]", url["rest"]) if _random(part)}
    found = {text for text in found if len(text) >= SHORT - 2 and text.lower() not in WORDS}
    if found or (not url and (named or not re.fullmatch(ORDINARY, value))):
        lines = {line.strip() for line in re.split(r"\\r|\\n|\n", value) if len(line.strip()) >= RANDOM}
        found |= {value, *lines}
    return found


def _inner(name: str, value: object) -> set[str]:
    """The secrets in a value that is JSON."""
    if isinstance(value, dict):
        return {text for key, each in value.items() for text in _inner(key, each)}
    if isinstance(value, list):
        return {text for each in value for text in _inner(name, each)}
    return _texts(name, value.strip()) if isinstance(value, str) else set()


def _random(text: str) -> bool:
    return len(text) >= RANDOM and bool(re.search(r"[A-Za-z]", text) and re.search(r"[0-9]", text))


def spellings(text: str) -> set[str]:
    """A text in all the forms in which it may be written elsewhere."""
    from urllib.parse import quote, quote_plus, unquote, unquote_plus

    plain = {text, unquote(text), unquote_plus(text)}
    encoded = {made for each in plain for made in (quote(each, safe=""), quote(each), quote_plus(each))}
    # SQLAlchemy quotes fewer characters than urllib does.
    encoded |= {quote(each, safe=" +") for each in plain}
    quoted = {repr(each)[1:-1] for each in plain} | {json.dumps(each)[1:-1] for each in plain}
    quoted |= {each.replace("/", "\\/") for each in quoted}  # as JSON of others has it
    lower = {re.sub("%[0-9A-F]{2}", lambda code: code[0].lower(), each) for each in encoded}
    return {each for each in plain | encoded | lower | quoted if each.strip()}


class _Outlet(io.TextIOWrapper):
    """A stream that makes each text safe to show before it writes it."""

    hidden = Hidden()

    def write(self, text: str) -> int:
        return super().write(self.hidden.shown(text))

    def unfiltered(self, text: str) -> None:
        """Write a text as it is."""
        super().write(text)
        self.flush()


def outlet(hidden: Hidden) -> None:
    """Make everything safe to show that this process writes to standard output and standard error."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and not isinstance(stream, _Outlet):
            lines = stream.line_buffering
            made = _Outlet(stream.detach(), "utf-8", "backslashreplace", line_buffering=lines)
            made.hidden = hidden
            setattr(sys, name, made)


def tell(value: object) -> None:
    """Print a value as JSON for another program, unfiltered: it is ASCII without control characters, and a filter could
    break it where a secret equals a word by chance.
    """
    getattr(sys.stdout, "unfiltered", sys.stdout.write)(json.dumps(value) + "\n")
