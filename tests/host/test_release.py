"""roles/release: one proven release serves, runs as it was told to, and comes back after a reboot."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from tests.host._hosts import OUTSIDER, App

SANDBOX = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "ProtectProc": "invisible",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "PrivateDevices": "yes",
    "PrivateUsers": "yes",
    "PrivateIPC": "yes",
    "DevicePolicy": "closed",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "RemoveIPC": "yes",
    "KeyringMode": "private",
    "OOMPolicy": "continue",
    "KillMode": "mixed",
}
"""What an app's service is shut off from, whatever its settings, as `systemctl show` prints it."""
LATE = 60
"""Seconds that a release may take to end after its time: its last requests are awaited."""

# Python files of a release that are not byte-compiled: no .pyc beside them, or one of another source.
_UNCOMPILED = """
import importlib.util, json, os, struct, sys
folder, tag = sys.argv[1:]
sys.implementation.cache_tag = tag
sources, missing, stale = 0, [], []
for place, folders, files in os.walk(folder):
    for name in files:
        path = os.path.join(place, name)
        if not name.endswith(".py") or os.path.islink(path):
            continue
        sources += 1
        try:
            with open(importlib.util.cache_from_source(path), "rb") as file:
                flags, changed, size = struct.unpack("<4xIII", file.read(16))
        except FileNotFoundError:
            missing.append(os.path.relpath(path, folder))
            continue
        found = os.stat(path)
        if flags == 0 and (changed, size) != (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF):
            stale.append(os.path.relpath(path, folder))
print(json.dumps([sources, missing, stale]))
"""

# One request over a release's own socket, by whoever runs this.
_ASK = """
import socket, sys
path, host, url = sys.argv[1:]
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(10)
try:
    connection.connect(path)
except OSError as error:
    sys.exit(print(type(error).__name__))
connection.sendall(f"GET {url} HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: close\\r\\n\\r\\n".encode())
print(connection.recv(4096).split(b"\\r\\n")[0].decode())
"""

# `alembic heads` and `alembic current` with the rights, the environment and the read-only file system of the running
# app. Its secrets pass from process to process, never through an argument that others could see.
_ALEMBIC = """
import json, os, pwd, subprocess, sys
pid, user, folder, alembic = sys.argv[1:]
items = open(f"/proc/{pid}/environ").read().split("\\0")
environment = dict(item.split("=", 1) for item in items if "=" in item) | {"PYTHONDONTWRITEBYTECODE": "1"}
owner = pwd.getpwnam(user)
options = dict(cwd=folder, env=environment, user=owner.pw_uid, group=owner.pw_gid, extra_groups=[], text=True)
found = {}
running = {what: subprocess.Popen([alembic, what], stdout=-1, stderr=-1, **options) for what in ("heads", "current")}
for what, process in running.items():
    out, error = process.communicate(timeout=60)
    revisions = [line.split()[0] for line in out.splitlines() if line.strip()]
    found[what] = {"status": process.returncode, "revisions": revisions, "error": error[-2000:]}
print(json.dumps(found))
"""


def test_a_release_serves(app: App) -> None:
    """`current` names a release that exists, and was finished."""
    assert app.target.stat(app.folder).get(app.folder, ("none",))[0] == "directory"
    record = json.loads(app.target.run("cat %s", f"/var/lib/slipway/{app.name}/{app.release}.json"))
    assert record["state"] == "good"


def test_release_has_no_faults(app: App) -> None:
    """What the host's own release program says."""
    assert app.status["release"] == app.release
    assert app.status["faults"] == []


def test_only_one_release_comes_back_after_a_reboot(app: App) -> None:
    """Nothing of any other is installed, or enabled by a link."""
    files = app.target.run(f"find /etc/systemd/system -name '{app.name}@*' -printf '%f\\n'")
    assert set(files.splitlines()) == {app.service, app.socket_unit}


def test_what_runs_beside_it_is_still_warm(app: App) -> None:
    """A release that served before may run on, so that going back is quick: its record says so, and until when."""
    pattern = f"{app.settings.unit('*').service.removesuffix('.service')}.*"
    listed = app.target.run("systemctl list-units --all --plain --no-legend %s", pattern)
    files = app.target.run(f"find /run/systemd/system -maxdepth 1 -name '{app.name}@*' -printf '%f\\n'")
    names = {line.split()[0] for line in listed.splitlines()} | set(files.splitlines())
    assert {app.service, app.socket_unit} <= names
    now = int(app.target.run("date +%s"))
    for release in {name.partition("@")[2].rpartition(".")[0] for name in names} - {app.release}:
        path = f"/var/lib/slipway/{app.name}/{release}.json"
        record = json.loads(app.target.host.run("cat %s", path).stdout or "{}")
        assert record.get("state") == "good", f"{release} runs, and never went live"
        assert record.get("warm_until", 0) > now - LATE, f"{release} should have ended long ago"


def test_no_run_was_left_behind(app: App) -> None:
    """No request that nobody took, and no helper of a run that isn't under way."""
    if app.status["run"]:
        pytest.skip("a release is under way")
    folder = f"/run/slipway/{app.name}"
    assert app.target.run(f"find {folder} -name request.json 2>/dev/null || true") == ""
    names = " ".join(f"{app.name}-{what}.service" for what in ("check", "schema", "hook", "migrate"))
    assert app.target.run(f"systemctl list-units --all --plain --no-legend {names}") == ""


def test_records_and_logs_are_root_s(app: App) -> None:
    """What releases were made from and what they said, 0600 in a folder of root's; and folders of this boot's runs."""
    folder = f"/var/lib/slipway/{app.name}"
    listed = app.target.run(f"find {folder} -printf '%y %m %u %f\\n'").splitlines()
    assert {tuple(line.split()[:3]) for line in listed if line.startswith("d")} == {("d", "700", "root")}
    files = [line.split(maxsplit=3) for line in listed if not line.startswith("d")]
    assert [each for each in files if each[:3] != ["f", "600", "root"]] == []
    assert f"{app.release}.json" in {each[3] for each in files}
    runs = f"/run/slipway/{app.name}"
    open_ones = app.target.run(
        f"find {runs} -mindepth 1 -maxdepth 1 \\( -perm /077 -o -not -user root \\) 2>/dev/null || true"
    )
    assert open_ones == ""


@pytest.mark.parametrize("kind", ["service", "socket"])
def test_unit_is_active_and_comes_back_after_a_reboot(app: App, kind: str) -> None:
    """Both of the release's units."""
    unit = app.service if kind == "service" else app.socket_unit
    # What is on disk, which is what counts at boot: `show` tells what systemd last read.
    enabled = app.target.host.run("systemctl is-enabled %s", unit).stdout.strip()
    assert (app.target.show(unit, "ActiveState")["ActiveState"], enabled) == ("active", "enabled")


def test_no_start_failed(app: App) -> None:
    """systemd didn't have to restart the service since it was started."""
    assert app.unit["NRestarts"] == "0"


def test_release_is_root_s(app: App) -> None:
    """All of the code and its packages; nobody else may write to any of it."""
    found = app.target.run(f"find {app.folder} \\( -not -user root -o -not -type l -perm /022 \\) -print")
    assert found.splitlines()[:10] == []


def test_release_is_closed_to_others(app: App) -> None:
    """Another app can't read the code, the static files excepted."""
    assert app.target.allowed(OUTSIDER, "r", [f"{app.work}/pyproject.toml", f"{app.folder}/.venv/pyvenv.cfg"]) == set()


def test_release_is_byte_compiled(app: App) -> None:
    """Every module of the app's folder, and nearly all of its packages (some ship files that aren't Python)."""
    tag = app.target.run_as(
        app.settings.user, "%s -I -B -c %s", app.python, "import sys; print(sys.implementation.cache_tag)"
    )
    sources, missing, stale = json.loads(app.target.run("python3 -c %s %s %s", _UNCOMPILED, app.folder, tag))
    assert stale == []
    assert [path for path in missing if not path.startswith(".venv/")] == []
    assert sources > 0
    assert len(missing) <= sources // 50, missing[:10]


def test_socket_is_nginx_s_alone(app: App) -> None:
    """The app believes forwarded headers, so nobody else may write into its socket."""
    path = app.settings.socket_path(app.release)
    assert app.target.stat(path) == {path: ("socket", "600", OUTSIDER, OUTSIDER)}


def ask(app: App, user: str, url: str) -> str:
    """First line of the answer over the release's own socket when `user` asks, or the error's name."""
    path = app.settings.socket_path(app.release)
    return app.target.run_as(user, "python3 -c %s %s %s %s", _ASK, path, app.settings.domains[0], url)


def test_app_answers_over_its_socket(app: App) -> None:
    """As nginx asks: the socket listens, and a worker answers."""
    assert app.settings.is_good(int(ask(app, OUTSIDER, app.settings.liveness).split(" ")[1]))


def test_socket_refuses_everybody_else(app: App) -> None:
    """The app's own user, for one."""
    assert ask(app, app.settings.user, app.settings.liveness) == "PermissionError"


def test_number_of_workers(app: App) -> None:
    """As set, or as computed from the host's cores and memory."""
    assert len(app.processes) - 1 == app.workers


def test_processes_run_as_the_app_s_user(app: App) -> None:
    """Master and workers."""
    assert {process.user for process in app.processes} == {app.settings.user}


def test_processes_have_no_privileges(app: App) -> None:
    """No capability, none to be had, and a filter of system calls."""
    found = {(p.status["NoNewPrivs"], int(p.status["CapEff"], 16), int(p.status["CapBnd"], 16)) for p in app.processes}
    assert found == {("1", 0, 0)}
    assert {process.status["Seccomp"] for process in app.processes} == {"2"}


def test_mask_of_new_files(app: App) -> None:
    """What the app writes is closed to others as the settings say."""
    assert {process.status["Umask"] for process in app.processes} == {app.settings.umask}


def test_sandbox_is_as_the_settings_say(app: App) -> None:
    """systemd's own view of each line that it shows as it was written; what may be off is tested apart."""
    chosen = app.settings.sandbox
    wanted = SANDBOX | {
        "User": app.settings.user,
        "Group": app.settings.group,
        "UMask": app.settings.umask,
        "Slice": app.settings.slice,
        "LogNamespace": app.name,
        "PrivateNetwork": "yes" if chosen.network == "unix" else "no",
        "MemoryDenyWriteExecute": "yes" if chosen.memory_deny_write_execute else "no",
        "ProcSubset": "pid" if chosen.hide_system else "all",
    }
    assert app.target.show(app.service, *wanted) == wanted


def test_file_system_is_read_only_for_the_app(app: App) -> None:
    """But for its home: seen from inside its mount namespace."""
    mounts = [line.split() for line in app.target.run("cat /proc/%s/mountinfo", app.pid).splitlines()]
    options = {each[4]: each[5].split(",")[0] for each in mounts}
    assert options["/"] == "ro"
    assert options.get(app.settings.home) == "rw"


def test_limit_of_open_files_is_in_effect(app: App) -> None:
    """For each process, and not only in the unit."""
    found = {process.open_files for process in app.processes}
    most = int(app.target.run("awk '/^Max open files/ {print $5}' /proc/1/limits"))
    if found == {most} and most < app.settings.limit_nofile:
        pytest.skip(f"systemd itself may open only {most} files here (a container's limit), so no service may more")
    assert found == {app.settings.limit_nofile}


def test_workers_use_uvloop_and_httptools(app: App) -> None:
    """Loaded by each worker: without them uvicorn falls back to slower ways and says nothing."""
    assert [worker.fast for worker in app.processes[1:]] == [{"uvloop", "httptools"}] * (len(app.processes) - 1)


def test_logs_go_to_the_journal(app: App) -> None:
    """Lines of the running service, under the app's name."""
    printed = app.target.run(
        "journalctl --namespace=%s -u %s -o json -n 200 --no-pager --output-fields=SYSLOG_IDENTIFIER,_TRANSPORT",
        app.name,
        app.service,
    )
    lines = [json.loads(line) for line in printed.splitlines()]
    own = [line for line in lines if line.get("_TRANSPORT") == "stdout"]
    if not own:
        first = app.target.run(
            "journalctl --namespace=%s -o json -n 1 --no-pager --reverse --output-fields=_BOOT_ID -b all | tail -n 1",
            app.name,
        )
        oldest = datetime.fromtimestamp(int(json.loads(first)["__REALTIME_TIMESTAMP"]) / 1e6, UTC)
        started = app.target.run("date -u -d %s +%%s", app.unit["ActiveEnterTimestamp"])
        if oldest.timestamp() > int(started):
            pytest.skip(f"the journal begins at {oldest:%F %T} UTC, after {app.service} was started")
    assert {line.get("SYSLOG_IDENTIFIER") for line in own} == {app.name}


def test_journal_starts_as_often_as_the_app(app: App) -> None:
    """systemd refuses a sixth start in ten seconds by default, and without its journal the app doesn't start."""
    units = app.settings.at.journal_unit, app.settings.at.journal_sync
    there = [unit for unit in units if app.target.show(unit, "LoadState") == {"LoadState": "loaded"}]
    assert units[0] in there
    assert {app.target.show(unit, "StartLimitIntervalUSec")["StartLimitIntervalUSec"] for unit in there} == {"0"}


def test_database_is_at_the_code_s_revision(app: App) -> None:
    """`alembic current` names just the revisions of `alembic heads`; neither changes the database."""
    if app.settings.migrate is None:
        pytest.skip("migrate is None: this project runs no migration of the app")
    configured = app.target.host.run(
        "[ -e %s ] || grep -qF '[tool.alembic' %s", f"{app.work}/alembic.ini", f"{app.work}/pyproject.toml"
    )
    alembic = f"{app.folder}/.venv/bin/alembic"
    if configured.rc != 0 or alembic not in app.target.stat(alembic):
        pytest.skip("the app has no Alembic, so there is no revision to compare")
    command = "nsenter --target %s --mount -- python3 -c %s %s %s %s %s"
    found = json.loads(app.target.run(command, app.pid, _ALEMBIC, app.pid, app.settings.user, app.work, alembic))
    assert {what: each["status"] for what, each in found.items()} == {"heads": 0, "current": 0}, found
    assert found["heads"]["revisions"], "the code has no revision"
    assert sorted(found["current"]["revisions"]) == sorted(found["heads"]["revisions"])


def test_this_release_answers_under_the_public_name(app: App) -> None:
    """What visitors get comes from the release that `current` names."""
    _, seen = app.site.whoami
    assert seen["release"] == app.release


def test_port_of_the_host_itself(app: App) -> None:
    """Where nginx offers the app without TLS: to the host, and to nobody else."""
    if app.settings.port is None:
        pytest.skip("port is None: the app is offered on 80 and 443 only")
    code = "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', int(sys.argv[1]), timeout=10); "
    code += "c.request('GET', sys.argv[2]); print(c.getresponse().status)"
    answered = app.target.run("python3 -c %s %s %s", code, str(app.settings.port), app.settings.liveness)
    assert app.settings.is_good(int(answered))
    table = app.target.run("cat /proc/net/tcp /proc/net/tcp6 2>/dev/null || true")
    listening = [line.split()[1] for line in table.splitlines() if " 0A " in line]
    assert [each for each in listening if each.endswith(f":{app.settings.port:04X}")] == [
        f"0100007F:{app.settings.port:04X}"
    ]
