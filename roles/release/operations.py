"""Releases and rollbacks: asked of the host's own program, and followed while they run."""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyinfra import host, logger
from pyinfra.api import Host, State, StringCommand
from slipway_host.events import event_of, readable
from slipway_host.layout import LAYOUT
from slipway_host.protocol import PROTOCOL
from slipway_host.wanted import held_back
from typing_extensions import override

from roles.release.facts import Git, GitCommits, ReleasePlan
from slipway.engine import plan
from slipway.engine.host import PROGRAM, HostFacts, app_of, note, target_of
from slipway.engine.place import File, placing, text_diff
from slipway.engine.plan import Ask, Change, Commands
from slipway.engine.pyinfra_api import CommandOutput, ConnectorArguments, shows_input
from slipway.engine.question import Expects
from slipway.prober import Prober, ProberError

MERGE = "`alembic merge heads`"
"""The command that joins heads, unless the host says another one."""


class Unseen(list[str]):
    """Standard input of a fact: pyinfra logs a fact's arguments, and this holds what only a build gets."""

    @override
    def __repr__(self) -> str:
        return "…"

    __str__ = __repr__


class Followed(StringCommand):
    """A command that takes long: what it prints is shown while it runs, and under traffic if a prober is given.

    It fails, too, if the prober lost a request.
    """

    def __init__(self, *bits: str, prober: Prober | None, **arguments: Any) -> None:
        super().__init__(PROGRAM, *bits, **arguments)
        self.prober = prober

    def told(self, line: str) -> str:
        """An event as people read it; `Tells`."""
        if event := event_of(line):
            note(self.of, event)
        return readable(line)

    @override
    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> tuple[bool, CommandOutput]:
        """Run it; its output counts as shown."""
        self.of = host.name
        if self.prober:
            try:
                self.prober.start()
            except ProberError as error:
                host.log(f"nothing was begun: {error}", logger.error)
                return False, CommandOutput([])
            host.log("traffic flows")
        try:
            connector_arguments.update(self.connector_arguments)
            done, output = host.run_shell_command(
                self, print_output=True, print_input=shows_input(state), **connector_arguments
            )
        except Exception:
            self.lossless(host)
            raise
        except BaseException:  # interrupted: nobody waits for the result
            if self.prober:
                self.prober.close()
            raise
        lossless = self.lossless(host)
        return done and lossless, output if done else CommandOutput([])

    def lossless(self, host: Host) -> bool:
        """End the traffic, and say whether a request was lost. Returns True without a prober."""
        if not self.prober:
            return True
        try:
            result = self.prober.stop()
        except ProberError as error:
            host.log(f"whether a request was lost isn't known: {error}", logger.error)
            return False
        host.log(result.line, logger.error if result.failed else logger.info)
        return not result.failed


def _release(
    app: str,
    apps: tuple[str, ...],
    wanted: dict[str, Any],
    request: dict[str, Any],
    archive: object = None,
    git: Git | None = None,
    sources: tuple[Git, ...] = (),
    **_: object,
) -> Iterator[Ask]:
    yield plan.asking(HostFacts, apps=apps)
    if git in sources:
        yield plan.asking(GitCommits, sources=sources)


def _form() -> tuple[str, ...]:
    """In which form the host tells of a run: as events, where what it prints is heard line by line."""
    return ("--json",) if isinstance(host.connector, Expects) else ()


def is_commit(ref: str) -> bool:
    """Whether a ref is a commit's whole name: nobody need be asked what it points to."""
    return len(ref) in (40, 64) and set(ref) <= set("0123456789abcdef")


@plan.operation(lambda given: [ask for each in given for ask in _release(**each)])
def release(given: Sequence[Mapping[str, Any]]) -> Commands:
    """Do `release_of` for all these: in one operation, since each takes some ms of a run.

    + given: the arguments of each
    """
    for each in given:
        yield from release_of(**each)


def settled(
    app: str,
    apps: tuple[str, ...],
    wanted: dict[str, Any],
    request: dict[str, Any],
    git: Git | None = None,
    sources: tuple[Git, ...] = (),
    keys: Sequence[str] = (),
    prober: Prober | None = None,
    **_: object,
) -> bool:
    """Whether `release_of` with these arguments has nothing to do, and nothing to say."""
    facts = plan.known(HostFacts, apps=apps)
    status = app_of(facts, app)
    if not status.get("release") or status.get("faults") or request["fresh"] or prober:
        return False
    if git:
        commit = "" if _unreached(git, keys) else _commit(git, sources, unreached=False)
        wanted = _at(commit, wanted)
    return bool(status.get("wanted") == json.loads(json.dumps(wanted)) and status["inputs"] == wanted["inputs"])


def _unreached(git: Git | None, keys: Sequence[str]) -> bool:
    """Whether a git source can't be looked up before this pass has changed the host."""
    return bool(git) and (plan.changed("package", "git") or plan.made(*keys))


def _at(commit: str, wanted: dict[str, Any]) -> dict[str, Any]:
    """What a release is made from, with the commit of its git source."""
    return wanted | {
        "source": wanted["source"] | {"commit": commit},
        "inputs": wanted["inputs"] | {"source": commit},
    }


def release_of(
    app: str,
    apps: tuple[str, ...],
    wanted: dict[str, Any],
    request: dict[str, Any],
    placeholders: Mapping[str, str] | None = None,
    archive: bytes | None = None,
    git: Git | None = None,
    sources: tuple[Git, ...] = (),
    keys: Sequence[str] = (),
    notes: Sequence[str] = (),
    prober: Prober | None = None,
) -> Commands:
    """Release `app` if what serves was not made from just these inputs, or doesn't serve as it should.

    + app: name of the app
    + apps: names of all apps of the host
    + wanted: what its release is made from (wanted.Wanted), except for the commit of a git source
    + request: secrets that only the build gets, who asks, how long to wait, and what they consent to
    + placeholders: the environment that a plan runs its migrations with, where nothing is secret
    + archive: source as a tar.gz, for a local folder
    + git: for a git source; the ref is looked up from the host
    + sources: of all apps whose refs are to be looked up
    + keys: files by which the host reaches it
    + notes: what is to be said of a release, if there is to be one
    + prober: the traffic to release under
    """
    facts = plan.known(HostFacts, apps=apps)
    status = app_of(facts, app)
    unreached = _unreached(git, keys)
    if git:
        commit = _commit(git, sources, unreached=unreached)
        if commit.startswith("error: ") and not (unreached and plan.planning()):
            told = f"{app}: {git[1]} of {git[0]} can't be looked up from the host: {commit.removeprefix('error: ')}"
            if plan.planning():
                plan.say(told, logger.error)
            plan.announce(Change("release", f"of {app}", plan.FAIL, note="its source can't be looked up"))
            yield plan.failure(told)
            return
        wanted = _at(commit, wanted)
    before, inputs = status.get("inputs", {}), wanted["inputs"]
    reasons = [key for key in {**inputs, **before} if before.get(key) != inputs.get(key)]
    faults, serving = status.get("faults", []), status.get("release")
    left = [each for each in status.get("rolled_back", []) if each["inputs"] == inputs]
    # The host decides the same: where no release serves, there is nothing to hold.
    held = bool(serving and reasons and left and not request["again"] and not request["fresh"]) and not unreached
    told = f"{serving} serves and was made from exactly this"
    if held:
        told = f"{left[-1]['by']} rolled back from {left[-1]['id']}, made from exactly this, at {left[-1]['since']}"
        again = "For a release, change the code, or use --again"
        plan.say(f"{app}: {told}; {serving} serves. {again}.", logger.warning)
        plan.leave(f"{app} not released ({left[-1]['by']} rolled back from it)")
    if not faults and not unreached and (held or not reasons) and not request["fresh"]:
        if prober:
            plan.say(f"{app}: no traffic was sent, since there is nothing to release", logger.warning)
        known = status.get("wanted", {})
        kept = held_back(known, wanted) if held else wanted
        if known == json.loads(json.dumps(kept)):
            host.noop(f"{app}: {told}")
            return
        path, text = str(LAYOUT.app(app).wanted), json.dumps(kept, indent=1)
        diff = text_diff(path, json.dumps(known, indent=1), text)
        plan.announce(Change("file", path, "modify", diff, "settings change that need no release"), makes=[path])
        yield placing(files={path: File(text, mode="600")})
        return
    value = request | {"protocol": PROTOCOL, "wanted": wanted}
    if archive is not None:
        value["archive"] = base64.b64encode(archive).decode()
    if git:
        value["ref"] = git[1]
    seen: dict[str, Any] = {}
    if serving and "source" in reasons and not unreached and not held and plan.planning():
        asked = json.dumps(value | {"placeholders": dict(placeholders or {})})
        seen = host.get_fact(ReleasePlan, app=app, _stdin=Unseen([asked]))
    if held and serving:
        plan.announce(Change("release", serving, "repair", note=f"{'; '.join(faults)}; no new one is made"))
    elif refused := _refused(seen, contract=request["contract"]):
        plan.announce(Change("release", f"of {app}", plan.FAIL, note=refused))
    else:
        why = _why(app, status, reasons, unreached=unreached, fresh=request["fresh"])
        why = _lossy(why) if request["stop_first"] else why
        plan.announce(Change("release", f"of {app}", "make", note=why))
    show_plan(app, {**seen, "notes": [*notes, *seen.get("notes", [])]}, contract=request["contract"])
    command = wanted["migration"]["command"]
    if isinstance(command, list) and not held and plan.planning():
        plan.say(f"{app}: what `{shlex.join(command)}` would migrate is known only once it runs", logger.warning)
    yield Followed("release", "--request", *_form(), app, prober=prober if serving else None, _stdin=json.dumps(value))


def _commit(git: Git, sources: tuple[Git, ...], *, unreached: bool) -> str:
    """The commit that a git source is at; "error: …" if that can't be told."""
    if is_commit(git[1]):
        return git[1]
    if unreached and not plan.planning():
        sources = (git,)
        told = host.get_fact(GitCommits, sources=sources)
    else:
        told = plan.known(GitCommits, sources=sources)
    return told.get(sources.index(git), "error: there is no git")


def _why(app: str, status: Mapping[str, Any], reasons: Sequence[str], *, unreached: bool, fresh: bool) -> str:
    """Why an app is released, and what its visitors notice."""
    serving, faults = status.get("release"), status.get("faults", [])
    if not serving:
        first = status or plan.changed("folder", str(LAYOUT.app(app).etc))
        return "its first release" if first else "what serves can't be told yet: a release if it isn't just this"
    if fresh:
        return "built anew, from empty caches; no request is lost"
    if unreached:
        return f"if its source isn't that of {serving}: it can't be looked up yet; no request is lost"
    why = f"{', '.join(reasons)} changed since {serving}" if reasons else "; ".join(faults)
    return why if faults else f"{why}; no request is lost"


def _lossy(note: str) -> str:
    """A note of a release or a rollback for which what serves is stopped first."""
    return f"{note.removesuffix('; no request is lost')}; what serves is stopped first, and requests are lost"


def _refused(told: Mapping[str, Any], *, contract: bool) -> str:
    """Why the host would refuse a release, as far as its plan tells; empty if nothing is known to stand against it."""
    forked, unknown = told.get("forked", []), told.get("unknown", [])
    if forked:
        return f"its migrations have {len(forked)} heads ({', '.join(forked)}): {told.get('merge', MERGE)}"
    if unknown:
        return f"the database is at {', '.join(unknown)}, which it doesn't have"
    destructive = [each["revision"] for each in told.get("pending", []) if each["contract"]]
    if destructive and not contract:
        return f"the release that serves may not survive {', '.join(destructive)}, which needs --contract"
    return ""


def show_plan(app: str, told: Mapping[str, Any], *, contract: bool) -> None:
    """Say what a release would bring: its Python, its commits, and the migrations with their SQL."""
    for each in told.get("notes", []):
        plan.say(f"{app}: {each}")
    for commit, _, subject in (line.partition(" ") for line in told.get("commits", []) if line):
        plan.announce(Change("commit", f"{commit} of {app}", "release", note=subject))
    if told.get("error"):
        plan.say(f"{app}: its migrations can't be looked at before it is built: {told['error']}", logger.warning)
    if told.get("sql_error"):
        plan.say(f"{app}: the SQL of its migrations can't be written here: {told['sql_error']}", logger.warning)
    for each in told.get("pending", []):
        sql = each["sql"] or "(its SQL can't be written without the database)"
        note, action = each["doc"], "run"
        if each["contract"]:
            note += f": it {' and '.join(each['contract'])}"
            if not contract:
                note, action = f"{note}, which needs --contract", plan.FAIL
        plan.announce(Change("migration", f"{each['revision']} of {app}", action, sql, note))


def _rollback(app: str, apps: tuple[str, ...], request: dict[str, Any], prober: Prober | None = None) -> Iterator[Ask]:
    yield plan.asking(HostFacts, apps=apps, targets=tuple((each, request["to"]) for each in apps))


@plan.operation(_rollback, is_idempotent=False)
def rollback(app: str, apps: tuple[str, ...], request: dict[str, Any], prober: Prober | None = None) -> Commands:
    """Make an older release of `app` serve again.

    + app: name of the app
    + apps: names of all apps of this rollback
    + request: who asks, which release (None: the previous good one), and what to do with a database ahead of it
    + prober: the traffic to do it under
    """
    facts = plan.known(HostFacts, apps=apps, targets=tuple((each, request["to"]) for each in apps))
    status, target = app_of(facts, app), target_of(facts, app)
    serving, faults = status.get("release"), status.get("faults", [])
    if not serving:
        yield plan.failure(f"{app}: no release serves on this host, so there is nothing to roll back.")
        return
    # If another run is under way, or one left the host in disorder, another release may serve later.
    if not faults and not status.get("run"):
        if told := target.get("error"):
            if plan.planning():
                plan.say(f"{app}: {told}", logger.error)
            plan.announce(Change("rollback", f"of {app}", plan.FAIL, note="the release for it can't be found"))
            yield plan.failure(f"{app}: {told}")
            return
        if target.get("release") == serving:
            plan.say(f"{app}: {serving} serves already", logger.warning)
            host.noop(f"{app}: {serving} serves already")
            return
    to = target.get("release") or request["to"] or "the previous good release"
    if to == serving:
        plan.announce(Change("release", serving, "repair", note="; ".join(faults) or "another run is under way"))
    else:
        note = f"{to} serves again; no request is lost"
        plan.announce(Change("rollback", f"of {app}", "make", note=_lossy(note) if request["stop_first"] else note))
    value = request | {"protocol": PROTOCOL}
    yield Followed("rollback", "--request", *_form(), app, prober=prober, _stdin=json.dumps(value))
