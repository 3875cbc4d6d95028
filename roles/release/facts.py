"""What the host's own program says of an app's releases, and git of a ref."""

from __future__ import annotations

import json
import re
import shlex

from pyinfra.api import FactBase
from typing_extensions import override

from slipway.engine.facts import JsonFact
from slipway.engine.host import PROGRAM
from slipway.engine.question import Question


class ReleasePlan(JsonFact):
    """`slipway plan`: commits and migrations of a release that would be made; its request is the `_stdin`."""

    @override
    def command(self, app: str) -> str:
        unknown = json.dumps({"error": "the host's program is an older one, which this run replaces"})
        return f"{PROGRAM} plan {app} 2>/dev/null || echo {shlex.quote(unknown)}"


class ReleaseHistory(FactBase[list[str]]):
    """`slipway releases`: a table of every release and rollback, newest first; or one line of JSON."""

    default = list

    @override
    def command(self, app: str, as_json: bool = False) -> Question:
        form = "--json " if as_json else ""
        return Question(f"[ ! -x {PROGRAM} ] || {PROGRAM} releases {form}{app}")

    @override
    def process(self, output: list[str]) -> list[str]:
        return output


Git = tuple[str, str, str]
"""URL, ref and SSH command of a git source; the latter is empty for other transports."""

# Of each: its last lines, with its number before them, in one write, so that none is within another's.
# $1 number, $2 SSH command, $3 URL, then the names that a ref may have
_COMMIT = """
commit() {
    number=$1 ssh=$2 url=$3; shift 3
    [ -z "$ssh" ] || export GIT_SSH_COMMAND="$ssh"
    told=$(GIT_TERMINAL_PROMPT=0 timeout 60 git ls-remote -- "$url" "$@" 2>&1); status=$?
    # git also tells of names that end like these, such as a branch "x/refs/heads/main", which anybody may push.
    printf '%s\\nended %d\\n' "$told" $status |
        awk -F '\\t' -v names=" $* " 'NF != 2 || index(names, " " $2 " ")' |
        tail -n 9 | cut -b 1-400 | sed "s/^/$number /"
}
command -v git >/dev/null || exit 0
"""
AT_ONCE = 8
"""Repositories that are asked side by side: they may be far away, and most likely have one server."""


class GitCommits(FactBase[dict[int, str]]):
    """Commit that a ref of a remote repository names now, or ``error: …`` with git's own words; empty without git.

    By its place among the sources, from 0.
    """

    default = dict

    @override
    def command(self, sources: tuple[Git, ...]) -> Question:
        asked = ""
        for number, (url, ref, ssh) in enumerate(sources):
            full = ref == "HEAD" or ref.startswith("refs/")
            # A tag that is an object of its own is named twice: the line with ^{} is the commit.
            names = [ref] if full else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
            asked += f"{shlex.join(['commit', str(number), ssh, url, *names])} &\n"
            asked += "wait\n" if number % AT_ONCE == AT_ONCE - 1 else ""
        return Question(shlex.join(["sh", "-c", f"{_COMMIT}{asked}wait\n"]))

    @override
    def process(self, output: list[str]) -> dict[int, str]:
        told: dict[int, list[str]] = {}
        for number, _, line in (each.partition(" ") for each in output):
            told.setdefault(int(number), []).append(line)
        return {number: _commit(lines) for number, lines in told.items()}


def _commit(lines: list[str]) -> str:
    """The commit that git tells of, or what went wrong; the last line tells how git ended."""
    *said, ended = lines
    if ended != "ended 0":
        return "error: " + "\n".join([*filter(None, said), f"git ls-remote {ended.replace('ended', 'ended with')}"])
    found = [tuple(line.split("\t")) for line in said if re.fullmatch(r"[0-9a-f]{40,64}\t\S+", line)]
    branches = [commit for commit, full in found if full.startswith("refs/heads/")]
    peeled = [commit for commit, full in found if full.endswith("^{}")]
    commits = [*branches, *peeled, *(commit for commit, _ in found)]
    return commits[0] if commits else "error: there is no such branch or tag"
