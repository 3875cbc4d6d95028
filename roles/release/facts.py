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


class GitCommit(FactBase[str]):
    """Commit that a ref of a remote repository names now, or ``error: …`` with git's own words; empty without git.

    A line has the names that the ref may have, behind "asked": git says nothing of a ref that doesn't exist, and
    pyinfra asks `process` only about something.
    """

    default = str

    @override
    def command(self, url: str, ref: str, ssh: str = "") -> Question:
        environment = "GIT_TERMINAL_PROMPT=0 " + (f"GIT_SSH_COMMAND={shlex.quote(ssh)} " if ssh else "")
        full = ref == "HEAD" or ref.startswith("refs/")
        # A tag that is an object of its own is named twice: the line with ^{} is the commit.
        names = [ref] if full else [f"refs/heads/{ref}", f"refs/tags/{ref}", f"refs/tags/{ref}^{{}}"]
        patterns = " ".join(shlex.quote(each) for each in names)
        ask = f"echo asked {patterns}; {environment}timeout 60 git ls-remote -- {shlex.quote(url)} {patterns} 2>&1"
        failed = 'echo "error: git ls-remote ended with $?"'
        return Question(f"! command -v git >/dev/null || {{ {ask} || {failed}; }}")

    @override
    def process(self, output: list[str]) -> str:
        names = next((line.split()[1:] for line in output if line.startswith("asked ")), [])
        said = [line for line in output if not line.startswith("asked ")]
        if any(line.startswith("error: git ls-remote ended") for line in said):
            return "error: " + "\n".join(line.removeprefix("error: ") for line in said)
        found = [tuple(line.split("\t")) for line in said if re.fullmatch(r"[0-9a-f]{40,64}\t\S+", line)]
        # git also tells of names that end like these, such as a branch "x/refs/heads/main", which anybody may push.
        found = [(commit, full) for commit, full in found if full in names]
        branches = [commit for commit, full in found if full.startswith("refs/heads/")]
        peeled = [commit for commit, full in found if full.endswith("^{}")]
        return next(
            iter([*branches, *peeled, *(commit for commit, _ in found)]), "error: there is no such branch or tag"
        )
