"""Operations that decide from host state where pyinfra's don't, or that pyinfra doesn't have.

Each asks what is known, says why there is nothing to do, or announces its changes and yields the commands that make
them. No command carries a secret: contents go through standard input. `place`, for files and their kin, has a module of
its own.
"""

from __future__ import annotations

import base64
import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pyinfra import host, logger, state
from pyinfra.api.arguments import ConnectorArguments
from pyinfra.api.command import StringCommand
from pyinfra.api.host import Host
from pyinfra.api.operation import OperationMeta
from pyinfra.api.state import State
from pyinfra.connectors.util import CommandOutput
from typing_extensions import override

from prober import Prober, ProberError
from roles import _plan as plan
from roles._facts import (
    SLIPWAY_NGINX,
    SLIPWAY_RELEASE,
    Answer,
    Existing,
    GitCommit,
    NginxStatus,
    NginxVersion,
    Packages,
    ReleasePlan,
    ReleaseStatus,
    RollbackTarget,
    Stale,
    Unit,
    Versions,
)
from roles._place import File, placing, text_diff
from roles._plan import Ask, Change, Commands


def shell_line(text: str, *arguments: str) -> str:
    """A small POSIX shell script with its arguments as one command line; the arguments are $1, $2, ..."""
    return shlex.join(["sh", "-c", text, "slipway", *arguments])


def shell(text: str, *arguments: str) -> StringCommand:
    """The command that runs such a script."""
    return StringCommand(shell_line(text, *arguments))


# $1 what to do meanwhile, $2 packages that it needs, then all packages
_APT = r"""
set -eu
umask 022
meanwhile=$1 first=$2; shift 2
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
    # One that was being unpacked can't be configured: it has to be unpacked anew, which apt doesn't do by itself.
    halves=$(dpkg-query -W -f '${db:Status-Eflag} ${binary:Package}\n' | sed -n 's/^reinstreq //p')
    patient dpkg --configure -a || [ -n "$halves" ]
    if [ -n "$halves" ]; then
        apt update
        apt --reinstall install $halves
    fi
    apt -f install
fi
[ $# -gt 0 ] || exit 0
find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mmin -60 | grep -q . || apt update
# Lists that are out of step with the mirror name files that are gone: fetch them anew, once.
get() { install "$@" >/dev/null || { apt update; install "$@"; }; }
if [ -n "$meanwhile" ]; then
    [ -z "$first" ] || get $first
    sh -c "$meanwhile" >/dev/null 2>&1 &
fi
get "$@" || status=$?
wait
exit ${status:-0}
"""


OPT = "/opt/slipway"
"""Where programs are."""
INSTALLING = "/run/slipway/install.lock"
"""Held while one is installed. Root's alone: whoever can open a file can hold its lock."""


@dataclass(frozen=True)
class Program:
    """What a command of its own installs, and not apt."""

    title: str
    """Name and version."""
    satisfied: str
    """A shell command that prints a line when it is installed, and never fails."""
    command: str
    """A shell command that installs it."""
    files: Mapping[str, File] = field(default_factory=dict)
    """Path → file that the command reads, in a folder of roles/base.py's."""

    @property
    def line(self) -> str:
        """The shell command that installs it unless it is there; a host does one at a time, whoever asked for it."""
        folder = INSTALLING.rpartition("/")[0]
        due = f'umask 022; [ -n "$({self.satisfied})" ] || {self.command}'
        locked = f"umask 077; mkdir -p -m 755 {folder}; exec flock {INSTALLING} sh -c {shlex.quote(due)}"
        return shlex.join(["sh", "-c", locked])


def _alternatives(package: str) -> list[str]:
    return package.split(" | ")


def _names(packages: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for package in packages for name in _alternatives(package))


def _packages(packages: Sequence[str], first: Sequence[str] = (), meanwhile: Sequence[Program] = ()) -> Iterator[Ask]:
    yield plan.asking(Packages, packages=_names(packages))
    for program in meanwhile:
        yield plan.asking(Answer, question=program.satisfied)


@plan.operation(_packages)
def apt_packages(packages: Sequence[str], first: Sequence[str] = (), meanwhile: Sequence[Program] = ()) -> Commands:
    """Install Debian packages; wait for whoever holds apt's locks, and repair a dpkg that was interrupted.

    + packages: names of packages, without recommended ones; of alternatives ("chrony | ntpsec"), the first is installed
      where none is there
    + first: those of them that `meanwhile` needs
    + meanwhile: programs whose own operations come later, each after what it needs: dpkg keeps one core busy, and the
      line idle. What fails here is done again by its operation, which says why
    """
    found = plan.known(Packages, packages=_names(packages))
    missing = [each[0] for each in map(_alternatives, packages) if not found.installed.intersection(each)]
    if not missing and not found.interrupted:
        host.noop("the packages are installed")
        return
    repair = [Change("package", "dpkg", "repair", note="it was interrupted")] if found.interrupted else []
    plan.announce(*repair, *(Change("package", package, "install") for package in missing))
    lines = [each.line for each in meanwhile if not plan.known(Answer, question=each.satisfied)]
    needed = [package for package in missing if package in first]
    yield shell(_APT, " && ".join(lines), " ".join(needed), *missing)


def install(name: str, program: Program) -> OperationMeta:
    """Install a program unless it is there."""
    return command_unless(
        name=name,
        satisfied=program.satisfied,
        command=StringCommand(program.line),
        change=Change("program", program.title, "install"),
        why=f"{program.title} is installed",
    )


_ENABLE = """
set -eu
systemctl unmask --quiet "$1"
systemctl daemon-reload
# As a package leaves it: `enable` takes half a second where there is an init script, too.
{ systemctl is-enabled --quiet "$1" && systemctl is-active --quiet "$1"; } || systemctl enable --now --quiet "$1"
"""


def _unit(unit: str, files: Sequence[str] = ()) -> Iterator[Ask]:
    yield plan.asking(Unit, unit=unit)


@plan.operation(_unit)
def unit_enabled(unit: str, files: Sequence[str] = ()) -> Commands:
    """Let systemd start `unit` now and at boot, as its files are.

    + files: those of ours that say what it is
    """
    found = plan.known(Unit, unit=unit)
    why = []
    if found.get("ActiveState") != "active":
        why.append("it doesn't run")
    if found.get("UnitFileState") != "enabled":
        why.append("it isn't enabled")
    if found.get("NeedDaemonReload") == "yes" or plan.made(*files):
        why.append("its files change")
    if not why:
        host.noop(f"{unit} is enabled and active")
        return
    plan.announce(Change("unit", unit, "enable", note=", ".join(why)))
    yield shell(_ENABLE, unit)


def _reread(units: Sequence[str], files: Sequence[str] = ()) -> Iterator[Ask]:
    shown = shlex.join(["systemctl", "show", "--property=NeedDaemonReload", "--value", *units])
    yield plan.asking(Answer, question=f"{shown} 2>/dev/null | grep -qx yes || echo current")


@plan.operation(_reread)
def units_reread(units: Sequence[str], files: Sequence[str] = ()) -> Commands:
    """Let systemd go by the files of `units`, which it has read as they were.

    + files: those of ours that say what they are
    """
    (ask,) = _reread(units)
    if plan.known(ask[0], **dict(ask[1])) and not plan.made(*files):
        host.noop("systemd has read them")
        return
    plan.announce(Change("unit", " ".join(units), "reread", note="its limits count at once"))
    yield StringCommand("systemctl", "daemon-reload")


@plan.operation(lambda unit, paths: [plan.asking(Stale, unit=unit, paths=paths)])
def restart_if_stale(unit: str, paths: tuple[str, ...]) -> Commands:
    """Restart `unit` if it has been running since before one of `paths` changed, or this run changes one.

    Decided from the host: the restart is not lost when the run that changed the file died before it.
    """
    if not plan.known(Stale, unit=unit, paths=paths) and not plan.made(*paths):
        host.noop(f"{unit} runs with its current files")
        return
    plan.announce(Change("unit", unit, "restart", note="its files are younger than it"))
    yield StringCommand("systemctl", "restart", unit)


def _satisfied(satisfied: str, *_: object, **__: object) -> Iterator[Ask]:
    yield plan.asking(Answer, question=satisfied)


@plan.operation(_satisfied)
def command_unless(
    satisfied: str, command: StringCommand, change: Change, why: str, makes: Sequence[str] = ()
) -> Commands:
    """Run `command` unless the shell question `satisfied` prints something.

    + satisfied: a shell command that prints a line when there is nothing to do, and never fails
    + command: what makes it so
    + change: what that is
    + why: said when there is nothing to do
    + makes: paths that it writes
    """
    if plan.known(Answer, question=satisfied):
        host.noop(why)
        return
    plan.announce(change, makes=makes)
    yield command


@plan.operation(lambda steps: [])
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
    told = f"{host.name}: {what} failed; the reason stands above, at its operation. Everything else was done."
    yield plan.failure(told)


NGINX = "/etc/nginx/slipway"
"""Where nginx's configuration of ours is."""
MAIN = "/etc/nginx/nginx.conf"
Files = Callable[["Versions | None", Callable[[str], bool], Mapping[str, str]], dict[str, str]]
"""Makes the files of a configuration: called with the versions of nginx and its OpenSSL, a function that tells whether
a path is on the host, and the files that serve."""


_TLS = "ssl_certificate "


def _nginx(files: Files, paths: Sequence[str]) -> Iterator[Ask]:
    yield plan.asking(NginxStatus)
    yield plan.asking(NginxVersion)
    yield plan.asking(Existing, paths=tuple(paths))


@plan.operation(_nginx)
def nginx_configuration(files: Files, paths: Sequence[str]) -> Commands:
    """Make these files nginx's configuration: validated, switched in one step, reloaded and proven to be live.

    + files: returns relative path → content of ``/etc/nginx/slipway/``, where ``@GENERATION@`` stands for the
      generation's name
    + paths: what it will ask for, if it is there
    """

    def exists(path: str) -> bool:
        return plan.made(path) or path in plan.known(Existing, paths=tuple(paths) if path in paths else (path,))

    status = plan.known(NginxStatus)
    version = plan.known(NginxVersion)
    if plan.changed("package", "nginx") and not plan.planning():
        version = host.get_fact(NginxVersion)  # a plan can but guess what will come
    generation = status.get("generation")
    current: dict[str, str] = status.get("files", {})
    desired = files(version, exists, current)
    expected = {path: text.replace("@GENERATION@", str(generation)) for path, text in desired.items()}
    if status.get("managed") and status.get("live") and current == expected:
        host.noop(f"nginx serves generation {generation}")
        return
    changes = [] if status.get("managed") else [Change("link", MAIN, "create", note="to slipway/nginx.conf")]
    for path in sorted(desired.keys() | current.keys()):
        before, after = current.get(path, ""), expected.get(path, "")
        if path not in current or before != after:
            action = "modify" if path in current and path in desired else "create" if path in desired else "remove"
            whole = f"{NGINX}/{path}"
            changes.append(Change("file", whole, action, text_diff(whole, before, after)))
    note = "no request is lost" if status.get("live") else "it doesn't serve its configuration yet"
    closed = [path for path in desired if _TLS in current.get(path, "") and _TLS not in desired[path]]
    if closed:
        sites = " and ".join(path.removeprefix("sites/").removesuffix(".conf") for path in closed)
        note = f"not lossless: HTTPS of {sites} ends, until there is a certificate"
    plan.announce(*changes, Change("nginx", "nginx", "reload", note=note))
    plan.becomes(NginxStatus, {"generation": "@GENERATION@", "managed": True, "live": True, "files": desired})
    yield StringCommand(SLIPWAY_NGINX, "apply", _stdin=json.dumps(desired))


def _served(certificates: Mapping[str, tuple[str, str]]) -> Iterator[Ask]:
    yield plan.asking(NginxStatus)
    for name in certificates:
        yield plan.asking(Answer, question=_question(name, *certificates[name]))


# $1 certificate, $2 nginx's configuration of the site, $3 a domain
_SERVED = """
grep -qsF "$1" "$2" || { echo later; exit 0; }  # the site has no TLS yet: nginx reads the file when it gets it
first() { sed -n '/-BEGIN CERT/,/-END CERT/p;/-END CERT/q' | tr -d '[:space:]'; }
served=$(openssl s_client -connect 127.0.0.1:443 -servername "$3" </dev/null 2>/dev/null | first)
[ "$served" != "$(first <"$1")" ] || echo same
"""


def _question(name: str, certificate: str, domain: str) -> str:
    return shell_line(_SERVED, certificate, f"{NGINX}/sites/{name}.conf", domain)


@plan.operation(_served)
def serve_certificates(certificates: Mapping[str, tuple[str, str]]) -> Commands:
    """Reload nginx if it serves another certificate than the one on disk.

    + certificates: name of a site → its certificate's file, and a domain that it is for
    """
    files = plan.known(NginxStatus).get("files", {})
    due = []
    for name, (certificate, domain) in certificates.items():
        if plan.made(certificate):  # since nginx was last configured
            if certificate in files.get(f"sites/{name}.conf", ""):
                due.append(name)
        elif not plan.changed("nginx", "nginx") and not plan.known(
            Answer, question=_question(name, certificate, domain)
        ):
            due.append(name)
    if not due:
        host.noop("nginx serves the certificates that are there")
        return
    what = "the certificate" if len(due) == 1 else "the certificates"
    plan.announce(Change("nginx", "nginx", "reload", note=f"for {what} of {', '.join(due)}; no request is lost"))
    yield StringCommand(SLIPWAY_NGINX, "reload")


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
        except Exception:
            self.lossless(host)
            raise
        except BaseException:  # interrupted: nobody waits for what became of the traffic
            if self.prober:
                self.prober.close()
            raise
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


Git = tuple[str, str, str]
"""URL, ref and SSH command of a git source."""


def _release(
    app: str,
    wanted: dict[str, Any],
    request: dict[str, Any],
    archive: object = None,
    git: Git | None = None,
    **_: object,
) -> Iterator[Ask]:
    yield plan.asking(ReleaseStatus, app=app)
    if git and not _is_commit(git[1]):
        yield plan.asking(GitCommit, url=git[0], ref=git[1], ssh=git[2])


def _is_commit(ref: str) -> bool:
    return len(ref) in (40, 64) and set(ref) <= set("0123456789abcdef")


@plan.operation(_release)
def release(
    app: str,
    wanted: dict[str, Any],
    request: dict[str, Any],
    placeholders: Mapping[str, str] | None = None,
    archive: bytes | None = None,
    git: Git | None = None,
    keys: Sequence[str] = (),
    prober: Prober | None = None,
) -> Commands:
    """Release `app` if what serves was not made from just these inputs, or doesn't serve as it should.

    + app: name of the app
    + wanted: what its release is made from, as `slipway-release` takes it, except for the commit of a git source
    + request: secrets that only the build gets, who asks, how long to wait, and what they consent to
    + placeholders: the environment that a plan runs its migrations with, where nothing is secret
    + archive: source as a tar.gz, for a local folder
    + git: URL, ref and SSH command, for a git source; the ref is looked up from the host
    + keys: files by which the host reaches it
    + prober: the traffic to release under
    """
    status = plan.known(ReleaseStatus, app=app)
    unreached = bool(git) and (plan.changed("package", "git") or plan.made(*keys))
    if git:
        commit = _commit(git, unreached)
        if commit.startswith("error: ") and not (unreached and plan.planning()):
            told = f"{app}: {git[1]} of {git[0]} can't be looked up from the host: {commit.removeprefix('error: ')}"
            if plan.planning():
                plan.say(told, logger.error)
            plan.announce(Change("release", f"of {app}", plan.FAIL, note="its source can't be looked up"))
            yield plan.failure(told)
            return
        wanted = wanted | {
            "source": wanted["source"] | {"commit": commit},
            "inputs": wanted["inputs"] | {"source": commit},
        }
    before, inputs = status.get("inputs", {}), wanted["inputs"]
    reasons = [key for key in inputs if before.get(key) != inputs[key]]
    faults, serving = status.get("faults", []), status.get("release")
    left = [each for each in status.get("rolled_back", []) if each["inputs"] == inputs]
    # The host holds it by itself, too.
    held = bool(reasons and left and not request["again"] and not request["fresh"]) and not unreached
    told = f"{serving} serves and was made from just this"
    if held:
        told = f"{left[-1]['by']} went back from {left[-1]['id']}, made from just this, at {left[-1]['since']}"
        again = "New code, or --data again=true, makes a release"
        plan.say(f"{app}: {told}; {serving} serves. {again}.", logger.warning)
    if not faults and not unreached and (held or not reasons) and not request["fresh"]:
        if prober:
            plan.say(f"{app}: no traffic was sent, since there is nothing to release", logger.warning)
        if status.get("wanted") == json.loads(json.dumps(wanted)):
            host.noop(f"{app}: {told}")
            return
        path, text = f"/etc/{app}/release.json", json.dumps(wanted, indent=1)
        diff = text_diff(path, json.dumps(status.get("wanted"), indent=1), text)
        plan.announce(Change("file", path, "modify", diff, "settings change that need no release"), makes=[path])
        yield placing(files={path: File(text, mode="600")})
        return
    value = request | {"wanted": wanted}
    if archive is not None:
        value["archive"] = base64.b64encode(archive).decode()
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
    show_plan(app, seen, contract=request["contract"])
    program = (SLIPWAY_RELEASE, "deploy", "--request", app)
    yield Followed(*program, prober=prober if serving else None, _stdin=json.dumps(value))


def _commit(git: Git, unreached: bool) -> str:
    """The commit that a git source is at; "error: …" if that can't be told."""
    url, ref, ssh = git
    if _is_commit(ref):
        return ref
    if unreached and not plan.planning():
        return host.get_fact(GitCommit, url=url, ref=ref, ssh=ssh)
    return plan.known(GitCommit, url=url, ref=ref, ssh=ssh) or "error: there is no git"


def _why(app: str, status: Mapping[str, Any], reasons: Sequence[str], *, unreached: bool, fresh: bool) -> str:
    """Why an app is released, and what its visitors notice."""
    serving, faults = status.get("release"), status.get("faults", [])
    if not serving:
        first = status or plan.changed("folder", f"/etc/{app}")
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
    heads, unknown = told.get("heads", []), told.get("unknown", [])
    if len(heads) > 1:
        return f"its migrations have {len(heads)} heads ({', '.join(heads)}): `alembic merge heads`"
    if unknown:
        return f"the database is at {', '.join(unknown)}, which it doesn't have"
    destructive = [each["revision"] for each in told.get("pending", []) if each["contract"]]
    if destructive and not contract:
        return f"the release that serves may not survive {', '.join(destructive)}, which needs --data contract=true"
    return ""


def show_plan(app: str, told: Mapping[str, Any], *, contract: bool) -> None:
    """Say what a release would bring: its commits, and the migrations with their SQL."""
    for commit, _, subject in (line.partition(" ") for line in told.get("commits", []) if line):
        plan.announce(Change("commit", f"{commit} of {app}", "release", note=subject))
    if told.get("error"):
        plan.say(f"{app}: its migrations can't be looked at before it is built: {told['error']}", logger.warning)
    if told.get("sql_error"):
        plan.say(f"{app}: Alembic can't render the SQL of its migrations here: {told['sql_error']}", logger.warning)
    for each in told.get("pending", []):
        sql = each["sql"] or "(Alembic can't render its SQL)"
        note, action = each["doc"], "run"
        if each["contract"]:
            note += f": it {' and '.join(each['contract'])}"
            if not contract:
                note, action = f"{note}, which needs --data contract=true", plan.FAIL
        plan.announce(Change("migration", f"{each['revision']} of {app}", action, sql, note))


def _rollback(app: str, request: dict[str, Any], prober: Prober | None = None) -> Iterator[Ask]:
    yield plan.asking(ReleaseStatus, app=app)
    yield plan.asking(RollbackTarget, app=app, to=request["to"])


@plan.operation(_rollback, is_idempotent=False)
def rollback(app: str, request: dict[str, Any], prober: Prober | None = None) -> Commands:
    """Let another release of `app` serve again.

    + app: name of the app
    + request: who asks, which release (None: the good one from before), and what to do with a database ahead of it
    + prober: the traffic to do it under
    """
    status, target = plan.known(ReleaseStatus, app=app), plan.known(RollbackTarget, app=app, to=request["to"])
    serving, faults = status.get("release"), status.get("faults", [])
    if not serving:
        yield plan.failure(f"{app}: no release serves on this host, so there is nothing to go back from.")
        return
    # Where another run is under way, or one left the host in disorder, what serves may be another one by then.
    if not faults and not status.get("run"):
        if told := target.get("error"):
            if plan.planning():
                plan.say(f"{app}: {told}", logger.error)
            plan.announce(Change("rollback", f"of {app}", plan.FAIL, note="which release is to serve can't be told"))
            yield plan.failure(f"{app}: {told}")
            return
        if target.get("release") == serving:
            plan.say(f"{app}: {serving} serves already", logger.warning)
            host.noop(f"{app}: {serving} serves already")
            return
    to = target.get("release") or request["to"] or "the good one from before"
    if to == serving:
        plan.announce(Change("release", serving, "repair", note="; ".join(faults) or "another run is under way"))
    else:
        note = f"{to} serves again; no request is lost"
        plan.announce(Change("rollback", f"of {app}", "make", note=_lossy(note) if request["stop_first"] else note))
    program = (SLIPWAY_RELEASE, "rollback", "--request", app)
    yield Followed(*program, prober=prober, _stdin=json.dumps(request))
