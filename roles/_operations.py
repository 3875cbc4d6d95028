"""Operations that decide from host state where pyinfra's don't, or that pyinfra doesn't have.

Each asks a fact, says why there is nothing to do, or yields the commands that make it so. No command carries a
secret: contents go through standard input, never through an argument list or a temporary file that others can read.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shlex
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta, operation
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput
from pyinfra.facts.deb import DebPackages
from pyinfra.operations.util.files import generate_color_diff
from typing_extensions import override

from prober import Prober, ProberError
from roles._facts import (
    Answer,
    FileState,
    FileText,
    GitCommit,
    NginxStatus,
    NginxVersion,
    ReleasePlan,
    ReleaseStatus,
    Stale,
    Unit,
)
from roles.settings import dry_run

Commands = Generator[StringCommand, None, None]

# Written aside, checked for its length (a connection may break half-way), given its owner and mode while nobody else
# can read it, then put in place in one step. A leftover of a killed run is swept away by the next write beside it.
_PUT = """
set -eu
umask 077
folder=$(dirname "$1")
rm -f "$folder"/.slipway-partial.??????
partial=$(mktemp "$folder/.slipway-partial.XXXXXX")
base64 -d >"$partial"
[ "$(wc -c <"$partial")" = "$2" ] || { echo "$1 did not arrive whole" >&2; exit 1; }
chown "$3:$4" "$partial"
chmod "$5" "$partial"
mv -fT "$partial" "$1"
"""


def script(text: str, *arguments: str) -> str:
    """A small POSIX shell script with its arguments as one command line; the arguments are $1, $2, ..."""
    return shlex.join(["sh", "-c", text, "slipway", *arguments])


def shell(text: str, *arguments: str, stdin: str | None = None) -> StringCommand:
    """The command that runs a `script`; `stdin` is what it reads."""
    line = script(text, *arguments)
    return StringCommand(line, _stdin=stdin) if stdin is not None else StringCommand(line)


def put(path: str, content: bytes, user: str, group: str, mode: str) -> StringCommand:
    """The command that makes `content` the file at `path`, in one step, through standard input."""
    encoded = base64.b64encode(content).decode()
    return shell(_PUT, path, str(len(content)), user, group, mode, stdin=encoded)


def show_diff(path: str, exists: bool, current: str, desired: str, *, hidden: str = "") -> None:
    """Print the change of a file when `--diff` asks for it; `hidden` says why its content isn't shown."""
    if not state.config.DIFF:
        return
    host.log(f"Will {'modify' if exists else 'create'} {path}")
    if hidden:
        logger.info("  (%d lines, not shown: %s)", desired.count("\n"), hidden)
    else:
        for line in generate_color_diff(current.splitlines(keepends=True), desired.splitlines(keepends=True)):
            logger.info("  %s", line)


@operation()
def file(
    path: str,
    content: str,
    user: str = "root",
    group: str = "root",
    mode: str = "644",
    secret: bool = False,
    program: bool = False,
) -> Commands:
    """Make `path` a file with this content, owner and mode, replaced in one step.

    + path: absolute path; its folder exists
    + content: text of the file
    + user, group, mode: owner and mode (as `chmod` takes it, without a leading zero)
    + secret: never show the content in a diff
    + program: Slipway's own and long: a diff shows only how it changes, not all of it where it is new
    """
    data = content.encode()
    now = host.get_fact(FileState, path=path)
    if now and (now.sha256, now.user, now.group, now.mode) == (hashlib.sha256(data).hexdigest(), user, group, mode):
        host.noop(f"{path} is as it should be")
        return
    if not now or now.sha256 != hashlib.sha256(data).hexdigest():
        hidden = "it may hold secrets" if secret else "a program of Slipway's" if program and not now else ""
        current = host.get_fact(FileText, path=path) if now and state.config.DIFF and not hidden else ""
        show_diff(path, bool(now), current, content, hidden=hidden)
    yield put(path, data, user, group, mode)


_APT = r"""
set -eu
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
# Unattended upgrades may hold apt's locks for minutes: wait for them, and say who it was when that doesn't end.
holder() {
    for lock in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/lib/apt/lists/lock; do
        [ -e "$lock" ] || continue
        pid=$(awk -v inode=":$(stat -c %i "$lock")\$" '$6 ~ inode {print $5; exit}' /proc/locks)
        [ -z "$pid" ] || { echo "$lock is held by $(cat "/proc/$pid/comm" 2>/dev/null) (process $pid)"; return; }
    done
}
patient() {
    end=$(($(date +%s) + 600))
    until out=$("$@" 2>&1); do
        case "$out" in
        *"Could not get lock"* | *"Unable to lock"* | *"is another process using it"* | \
        *"locked by another process"* | *"lock was locked by"*)
            [ "$(date +%s)" -lt "$end" ] || { echo "$out"; echo "Gave up after 10 minutes: $(holder)"; return 1; }
            sleep 3 ;;
        *) echo "$out"; return 1 ;;
        esac
    done
}
apt() { patient apt-get -q -y -o Acquire::Retries=3 "$@"; }
install() {
    apt --no-install-recommends -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@"
}
# A dpkg that was interrupted refuses everything until it is repaired.
if [ -n "$(ls -A /var/lib/dpkg/updates)" ] || [ -n "$(dpkg --audit)" ]; then
    patient dpkg --configure -a
    apt -f install
fi
[ $# -gt 0 ] || exit 0
find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 | grep -q . || apt update
# Lists that are out of step with the mirror name files that are gone: fetch them anew, once.
install "$@" >/dev/null || { apt update; install "$@"; }
"""

INTERRUPTED = """
command -v dpkg >/dev/null || exit 0
[ -z "$(ls -A /var/lib/dpkg/updates)" ] && [ -z "$(dpkg --audit)" ] || echo interrupted
"""
"""A shell question that prints a line if dpkg was interrupted."""


@operation()
def apt_packages(packages: Sequence[str]) -> Commands:
    """Install Debian packages; wait for whoever holds apt's locks, and repair a dpkg that was interrupted.

    + packages: names of packages, without recommended ones
    """
    installed = host.get_fact(DebPackages)
    missing = [package for package in packages if package not in installed]
    interrupted = host.get_fact(Answer, question=INTERRUPTED)
    if not missing and not interrupted:
        host.noop("the packages are installed")
        return
    yield shell(_APT, *missing)


@operation()
def unit_enabled(unit: str) -> Commands:
    """Let systemd start `unit` now and at boot."""
    known = host.get_fact(Unit, unit=unit)
    if known.get("ActiveState") == "active" and known.get("UnitFileState") == "enabled":
        host.noop(f"{unit} is enabled and active")
        return
    yield StringCommand("systemctl", "daemon-reload")
    yield StringCommand("systemctl", "enable", "--now", "--quiet", unit)


@operation()
def restart_if_stale(unit: str, paths: tuple[str, ...]) -> Commands:
    """Restart `unit` if it has been running since before one of `paths` changed.

    Decided from the host: the restart is not lost when the run that changed the file died before it.
    """
    if not host.get_fact(Stale, unit=unit, paths=paths):
        host.noop(f"{unit} runs with its current files")
        return
    yield StringCommand("systemctl", "restart", unit)


@operation()
def command_unless(satisfied: str, commands: Sequence[str | StringCommand], why: str) -> Commands:
    """Run `commands` unless the shell question `satisfied` prints something.

    + satisfied: a shell command that prints a line when there is nothing to do, and never fails
    + commands: what makes it so
    + why: said when there is nothing to do
    """
    if host.get_fact(Answer, question=satisfied):
        host.noop(why)
        return
    for each in commands:
        yield StringCommand(each) if isinstance(each, str) else each


@operation()
def all_succeeded(steps: Mapping[str, OperationMeta]) -> Commands:
    """Fail if one of `steps` did: those whose error was passed over, so that one app's mistake can't stop another.

    + steps: what was to be achieved → the operation that should have
    """
    failed = [what for what, meta in steps.items() if state.is_executing and meta.did_error()]
    if not failed:
        if state.is_executing:
            done = [each.operation_meta for each in state.ops[host].values() if each.operation_meta.is_complete()]
            changed = sum(meta.did_change() for meta in done)
            host.log(f"{changed} of {len(done)} operations changed the host" if changed else "nothing to change")
        host.noop("every step succeeded")
        return
    what = " and ".join(failed)
    yield failure(f"{host.name}: {what} failed; the reason stands above, at its operation. Everything else was done.")


def failure(message: str) -> StringCommand:
    """A command that fails with this message: an exception would end the run on every other host too."""
    return shell('echo "$1" >&2; exit 1', message)


@operation()
def nginx_configuration(
    files: Callable[[tuple[int, int, int] | None, Callable[[str], bool], Mapping[str, str]], dict[str, str]],
) -> Commands:
    """Make these files nginx's configuration: validated, switched in one step, reloaded and proven to be live.

    + files: called with nginx's version, a function that tells whether a path exists on the host, and the files that
      serve; returns relative path → content of ``/etc/nginx/slipway/``, where ``@GENERATION@`` stands for the
      generation's name
    """

    def exists(path: str) -> bool:
        return bool(host.get_fact(Answer, question=f"[ ! -e {shlex.quote(path)} ] || echo yes"))

    status = host.get_fact(NginxStatus)
    generation = status.get("generation")
    current: dict[str, str] = status.get("files", {})
    desired = files(host.get_fact(NginxVersion), exists, current)
    expected = {path: text.replace("@GENERATION@", str(generation)) for path, text in desired.items()}
    if status.get("managed") and status.get("live") and current == expected:
        host.noop(f"nginx serves generation {generation}")
        return
    for path in sorted(desired.keys() | current.keys()):
        if current.get(path) != expected.get(path):
            before, after = current.get(path, ""), expected.get(path, "")
            show_diff(f"/etc/nginx/slipway/{path}", path in current, before, after)
    if not status:
        host.log("nginx isn't there yet: it is installed by this run", logger.debug)
    yield StringCommand("/opt/slipway/bin/slipway-nginx", "apply", _stdin=json.dumps(desired))


class Followed(StringCommand):
    """A command that takes long: what it prints is shown while it runs, and under traffic if a prober is given.

    It fails, too, if the prober lost a request.
    """

    def __init__(self, *bits: str, prober: Prober | None, **arguments: Any) -> None:
        super().__init__(*bits, **arguments)
        self.prober = prober

    @override
    def execute(self, state: State, host: Host, connector_arguments: ConnectorArguments) -> tuple[bool, CommandOutput]:
        """Run it; its output counts as shown."""
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
                self, print_output=True, print_input=state.print_input, **connector_arguments
            )
        finally:
            lossless = self.lossless(host)
        return done and lossless, output if done else CommandOutput([])

    def lossless(self, host: Host) -> bool:
        """End the traffic, and say what became of it; True without a prober."""
        if not self.prober:
            return True
        try:
            result = self.prober.stop()
        except ProberError as error:
            host.log(f"whether a request was lost isn't known: {error}", logger.error)
            return False
        host.log(result.line, logger.error if result.failed else logger.info)
        return not result.failed


@operation()
def release(
    app: str,
    wanted: dict[str, Any],
    request: dict[str, Any],
    archive: bytes | None = None,
    git: tuple[str, str, str] | None = None,
    prober: Prober | None = None,
) -> Commands:
    """Release `app` if what serves was not made from just these inputs, or doesn't serve as it should.

    + app: name of the app
    + wanted: what its release is made from, as `slipway-release` takes it, except for the commit of a git source
    + request: secrets that only the build gets, who asks, how long to wait, and what they consent to
    + archive: source as a tar.gz, for a local folder
    + git: URL, ref and SSH command, for a git source; the ref is looked up from the host
    + prober: the traffic to release under
    """
    status = host.get_fact(ReleaseStatus, app=app)
    if git:
        url, ref, ssh = git
        commit = (
            ref
            if len(ref) in (40, 64) and set(ref) <= set("0123456789abcdef")
            else host.get_fact(GitCommit, url=url, ref=ref, ssh=ssh)
        )
        if commit.startswith("error: "):
            told = f"{app}: {ref} of {url} can't be looked up from the host: {commit.removeprefix('error: ')}"
            if dry_run():
                host.log(told, logger.error)
            yield failure(told)
            return
        wanted = wanted | {
            "source": wanted["source"] | {"commit": commit},
            "inputs": wanted["inputs"] | {"source": commit},
        }
    before, inputs = status.get("inputs", {}), wanted["inputs"]
    reasons = [key for key in inputs if before.get(key) != inputs[key]]
    faults, serving = status.get("faults", []), status.get("release")
    left = [each for each in status.get("rolled_back", []) if each["inputs"] == inputs]
    if not faults and (not reasons or (left and not request["again"])):
        told = f"{serving} serves and was made from just this"
        if reasons:
            told = f"{left[-1]['by']} went back from {left[-1]['id']}, made from just this, at {left[-1]['since']}"
            again = "New code, or --data again=true, makes a release"
            host.log(f"{app}: {told}; {serving} serves. {again}.", logger.warning)
        if prober:
            host.log(f"{app}: no traffic was sent, since there is nothing to release", logger.warning)
        if status.get("wanted") == json.loads(json.dumps(wanted)):
            host.noop(f"{app}: {told}")
            return
        host.log(f"{app}: settings change that need no release")
        yield put(f"/etc/{app}/release.json", json.dumps(wanted, indent=1).encode(), "root", "root", "600")
        return
    why = f"{', '.join(reasons)} changed since {serving}" if reasons and serving else "; ".join(faults)
    host.log(f"{app}: {why if serving else 'its first release'}")
    value = request | {"wanted": wanted}
    if archive is not None:
        value["archive"] = base64.b64encode(archive).decode()
    if serving and "source" in reasons and dry_run():
        plan: dict[str, Any] = host.get_fact(ReleasePlan, app=app, _stdin=json.dumps(value))
        show_plan(app, plan)
    program = ("/opt/slipway/bin/slipway-release", "deploy", "--request", app)
    yield Followed(*program, prober=prober if serving else None, _stdin=json.dumps(value))


def show_plan(app: str, plan: Mapping[str, Any]) -> None:
    """Print what a release would bring: its commits, and the migrations with their SQL."""
    for commit in filter(None, plan.get("commits", [])):
        host.log(f"{app}: commit {commit}")
    if plan.get("error"):
        host.log(f"{app}: its migrations can't be looked at before it is built: {plan['error']}", logger.warning)
    heads, unknown = plan.get("heads", []), plan.get("unknown", [])
    if len(heads) > 1:
        host.log(
            f"{app}: its migrations have {len(heads)} heads ({', '.join(heads)}), which is refused", logger.warning
        )
    if unknown:
        host.log(f"{app}: the database is at {', '.join(unknown)}, which it doesn't have: refused", logger.warning)
    for each in plan.get("pending", []):
        host.log(f"{app}: migration {each['revision']} {each['doc']}")
        for step in each["contract"]:
            host.log(f"{app}: it {step}, which needs --data contract=true", logger.warning)
        for line in (each["sql"] or "(Alembic can't render its SQL)").splitlines():
            logger.info("  %s", line)


@operation(is_idempotent=False)
def rollback(app: str, request: dict[str, Any], prober: Prober | None = None) -> Commands:
    """Let another release of `app` serve again.

    + app: name of the app
    + request: who asks, which release (None: the good one from before), and what to do with a database ahead of it
    + prober: the traffic to do it under
    """
    if not host.get_fact(ReleaseStatus, app=app).get("release"):
        yield failure(f"{app}: no release serves on this host, so there is nothing to go back from.")
        return
    program = ("/opt/slipway/bin/slipway-release", "rollback", "--request", app)
    yield Followed(*program, prober=prober, _stdin=json.dumps(request))
