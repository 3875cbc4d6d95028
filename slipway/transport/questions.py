"""What facts ask of a host: told apart from what changes it, remembered, and asked all together."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from slipway import person
from slipway.transport.shell import STDERR, STDOUT, Outcome, unmarked

# The questions run side by side, twice as many as there are cores since some of them wait, each with files of its own
# for what it prints; nobody else may read them. An answer is told as soon as it is whole; the mark, with the question's
# number, ends each of its streams. Few processes a question: starting them takes as long as most answers do.
_ASK = """
umask 077
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
awk -v folder="$folder" '
    $0 == "{mark}" {{close(file); number++; file = folder "/" number; next}}
    {{print >file}}' <<'{mark} end' || exit 1
{questions}{mark} end
seq {count} | xargs -P "$((2 * $(nproc)))" -I{{}} sh -c '
    (. "$1/{{}}") </dev/null >"$1/{{}}.out" 2>"$1/{{}}.err"; echo "{{}} $?"' ask "$folder" |
while read -r number status; do
    [ ! -s "$folder/$number.out" ] || cat "$folder/$number.out"; printf '\\n{mark} %d %d\\n' "$number" "$status"
    [ ! -s "$folder/$number.err" ] || cat "$folder/$number.err" >&2; printf '\\n{mark} %d\\n' "$number" >&2
done
"""


def ask(questions: Sequence[str]) -> tuple[str, str]:
    """The script that asks them all, and the mark between its answers, as `Answers` takes it."""
    mark = secrets.token_hex(16)
    written = "".join(f"{mark}\n{question}\n" for question in questions)
    return _ASK.format(questions=written, count=len(questions), mark=mark), mark


class Answers:
    """Hears what the script of `ask` prints, and tells each answer as soon as it is whole."""

    def __init__(self, mark: str, tell: Callable[[int, Outcome], None]) -> None:
        """Answers between marks like this; `tell` is called with a question's place, from 0, and its answer."""
        self.mark, self.tell = mark, tell
        self._lines: dict[str, list[str]] = {STDOUT: [], STDERR: []}
        self._half: dict[int, dict[str, Outcome]] = {}

    def hear(self, stream: str, line: str) -> None:
        """Take the next line of a stream."""
        lines = self._lines[stream]
        if not line.startswith(self.mark):
            lines.append(line)
            return
        number, status, *_ = [*map(int, line.split()[1:]), 0]
        parts = self._half.setdefault(number, {})
        parts[stream] = Outcome([(stream, each) for each in unmarked(lines)], status)
        lines.clear()
        if len(parts) == len(self._lines):
            out = parts[STDOUT]
            self.tell(number - 1, Outcome(out.lines + parts[STDERR].lines, out.status))


class Memory:
    """The questions that a run asked, in their order, for the next run of the same files on the same host.

    Only questions, never answers; in the user's cache folder. Without it a run asks one by one, and is right as well.
    """

    def __init__(self, *names: str) -> None:
        folder = (person.cache() or Path(os.devnull)) / "slipway" / "questions"
        name = hashlib.sha256("\0".join(names).encode()).hexdigest()
        self.path = folder / name
        self.remembered = self._load()
        self.known = self.remembered
        self.asked: dict[str, None] = {}

    def _load(self) -> list[str]:
        try:
            read = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none yet, or it is broken: it is written anew
            return []
        return [each for each in read if isinstance(each, str)] if isinstance(read, list) else []

    def expect(self, questions: Iterable[str]) -> None:
        """Take these for what will be asked next, after what is remembered already."""
        self.known = list(dict.fromkeys([*self.known, *questions]))

    def next_of(self, question: str, most: int) -> list[str]:
        """`question`, and the ones that were asked after it: `most` at most in all."""
        following = self.known[self.known.index(question) + 1 :] if question in self.known else []
        return [question, *following[: most - 1]]

    def save(self, *, complete: bool) -> None:
        """Keep what was asked, unless the run ended before it asked what the last one did.

        + complete: it surely asked all that it had to ask
        """
        asked = list(self.asked)
        if asked == self.remembered[: len(asked)] and not (complete and asked):
            return
        # A cache that can't be written (a read-only home) costs round trips, nothing else.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=self.path.parent, delete=False, encoding="utf-8") as file:
                json.dump(asked, file)
            Path(file.name).replace(self.path)
