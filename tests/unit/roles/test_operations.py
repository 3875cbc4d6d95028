"""The shell that our facts and operations send, run for real against temporary files and repositories."""

from __future__ import annotations

import base64
import getpass
import grp
import hashlib
import json
import os
import shlex
import stat
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import gevent
import pytest
from pyinfra import logger
from pyinfra.api.command import StringCommand
from pyinfra.api.facts import FactBase
from pyinfra.connectors.util import CommandOutput, OutputLine

from roles import program, tls
from roles.base import operations as base_operations
from roles.base.facts import Packages
from roles.firewall.facts import Firewall, FirewallState
from roles.nginx.facts import NginxVersion, Versions
from roles.release import operations as release_operations
from roles.release.facts import Git, GitCommits, ReleaseHistory, ReleasePlan
from roles.updates import operations as updates_operations
from slipway.engine import host as host_module
from slipway.engine import operations
from slipway.engine import place as place_module
from slipway.engine import plan as plan_module
from slipway.engine.facts import Changed, Existing, Place, Places, Texts, Unit
from slipway.engine.host import HostFacts, app_of, certificate_of, nginx_of, target_of
from slipway.engine.operations import _reread
from slipway.engine.overview import Overview
from slipway.engine.place import File, Folder, placing, text_diff
from slipway.engine.question import Question, Tells
from slipway.prober import ProberError, Result
from tests.unit.inventories import certificate, new_key
from tests.unit.plans import command_of

USER = getpass.getuser()
GROUP = grp.getgrgid(os.getgid()).gr_name


def run(command: StringCommand) -> subprocess.CompletedProcess[str]:
    """What a host does with a command."""
    sent = command_of(command)
    return subprocess.run(["sh", "-c", sent.line], input=sent.stdin, capture_output=True, text=True, check=False)


def ask(fact: FactBase[Any], *arguments: Any) -> Any:
    """A fact of this machine."""
    asked = fact.command(*arguments)
    if not isinstance(fact, ReleasePlan):
        assert isinstance(asked, Question), f"{fact.name} doesn't say that it only looks"
    command = asked if isinstance(asked, str) else asked.get_raw_value()
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"a fact's command must not fail: {command}\n{done.stderr}"
    return fact.process(done.stdout.splitlines()) if done.stdout else fact.default()


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def put(path: Path, content: str, mode: str = "600") -> StringCommand:
    """The command that makes a file."""
    return placing(files={str(path): File(content, mode, USER, GROUP)})


@pytest.mark.parametrize("content", ["", "text\n", "no line break", "\0x\n" * 50_000, "größe '\"$x`\n"])
def test_a_file_arrives_as_it_is(tmp_path: Path, content: str) -> None:
    path = tmp_path / 'it\'s a "file" $HOME'
    done = run(put(path, content, "640"))
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == content.encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert list(tmp_path.iterdir()) == [path]


def test_many_files_arrive_together(tmp_path: Path) -> None:
    """In folders that come with them, each with its own content, owner and mode."""
    wanted = {f"{tmp_path}/a/b/{number}": f"{number}\n" * number * 1000 for number in range(20)}
    folders = {f"{tmp_path}/a": Folder("755", USER, GROUP), f"{tmp_path}/a/b": Folder("700", USER, GROUP)}
    files = {path: File(text, "640" if path.endswith("1") else "600", USER, GROUP) for path, text in wanted.items()}
    done = run(placing(folders=folders, files=files, links={f"{tmp_path}/a/link": "b/1"}))
    assert done.returncode == 0, done.stderr
    assert {str(path): path.read_text() for path in (tmp_path / "a/b").iterdir()} == wanted
    told = ask(Places(), ("root", "nosuchuser"), tuple(folders), tuple(files), (f"{tmp_path}/a/link",))
    assert told["root"].kind == "account" and told["root"].target.startswith("/") and "nosuchuser" not in told
    for path, file in files.items():
        assert told[path] == Place("f", file.mode, USER, GROUP, file.digest)
    assert {told[path].mode for path in folders} == {"755", "700"} and told[f"{tmp_path}/a/link"].target == "b/1"


@pytest.mark.parametrize("cut", [0, 4, 30])
def test_files_that_do_not_arrive_whole_change_nothing(tmp_path: Path, cut: int) -> None:
    first, second = tmp_path / "1", tmp_path / "2"
    first.write_text("before")
    wanted = {str(path): File(os.urandom(3000).hex(), "600", USER, GROUP) for path in (first, second)}
    command = placing(files=wanted)
    whole = command.connector_arguments["_stdin"]
    assert isinstance(whole, str)
    command.connector_arguments["_stdin"] = whole[: len(whole) * cut // 40 // 4 * 4]
    done = run(command)
    assert done.returncode == 1 and "did not arrive whole" in done.stderr
    assert first.read_text() == "before" and not second.exists()


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".slipway-partial.other").write_text("half a secret")
    (tmp_path / ".slipway.conf").write_text("the user's own")
    assert run(put(tmp_path / "file", "x")).returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [".slipway.conf", "file"]


def test_nobody_else_can_read_what_is_on_its_way(tmp_path: Path) -> None:
    """Killed between its arrival and its place, a secret lies there as closed as it will be."""
    command = command_of(put(tmp_path / "file", "s3cr3t"))
    script = command.argv[2].replace("put() {", "put() { exit 9; ")
    done = subprocess.run(["sh", "-c", script], input=command.stdin, text=True, check=False)
    (left,) = tmp_path.iterdir()
    assert done.returncode == 9 and left.read_text() == "s3cr3t" and stat.S_IMODE(left.stat().st_mode) == 0o600


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("before")
    (tmp_path / "file").symlink_to("target")
    assert run(put(tmp_path / "file", "x")).returncode == 0
    assert not (tmp_path / "file").is_symlink()
    assert (tmp_path / "target").read_text() == "before"


def test_a_file_does_not_go_into_a_folder_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    assert run(put(tmp_path / "file", "x")).returncode != 0
    assert list((tmp_path / "file").iterdir()) == []


def test_a_link_points_elsewhere_in_one_step(tmp_path: Path) -> None:
    for target in ("one", "two", "two"):
        assert run(placing(links={f"{tmp_path}/link": target})).returncode == 0
        assert (tmp_path / "link").readlink() == Path(target)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_what_must_not_be_there_goes(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert run(placing(absent=[f"{tmp_path}/link", f"{tmp_path}/none"])).returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_link_stays_one(tmp_path: Path) -> None:
    """An administrator may have moved it to another disk."""
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "folder").symlink_to("disk")
    path = f"{tmp_path}/folder"
    assert ask(Places(), (), (path,), (), ())[path].kind == "d"
    assert run(placing(folders={path: Folder("755", USER, GROUP)})).returncode == 0
    assert (tmp_path / "folder").is_symlink() and stat.S_IMODE((tmp_path / "disk").stat().st_mode) == 0o755


def test_content_is_no_argument(tmp_path: Path) -> None:
    sent = command_of(put(tmp_path / "file", "s3cr3t"))
    assert "s3cr3t" not in sent.line and base64.b64encode(b"s3cr3t").decode() not in sent.line
    assert sent.writes[f"{tmp_path}/file"].text == "s3cr3t"


def test_what_is_said_of_paths(tmp_path: Path) -> None:
    path = tmp_path / "a file"
    assert ask(Places(), (), (), (str(path),), ()) == {}
    run(put(path, "text"))
    digest = hashlib.sha256(b"text").hexdigest()
    assert ask(Places(), (), (), (str(path),), ()) == {str(path): Place("f", "600", USER, GROUP, digest)}
    found = ask(Places(), (), (), (str(tmp_path),), (str(path), f"{tmp_path}/none"))
    assert found[str(tmp_path)].kind == "d", "a folder is no file"
    assert found[str(path)].digest == "" and len(found) == 2


def test_the_texts_of_files(tmp_path: Path) -> None:
    paths = (str(tmp_path / "none"), str(tmp_path / "a file"), str(tmp_path / "empty"))
    Path(paths[1]).write_text("one\n\n two")
    Path(paths[2]).touch()
    assert ask(Texts(), paths) == {paths[1]: "one\n\n two", paths[2]: ""}
    assert ask(Existing(), paths) == {*paths[1:]}


def test_a_diff_of_texts() -> None:
    lines = text_diff("/etc/x", "a\nb\n", "a\nc\n").splitlines()
    assert lines == ["--- /etc/x", "+++ /etc/x", "@@ -1,2 +1,2 @@", " a", "-b", "+c"]
    assert text_diff("/etc/x", "", "a\n").splitlines()[2:] == ["@@ -0,0 +1 @@", "+a"]
    assert text_diff("/etc/x", "a\n", "a\n") == ""
    assert text_diff("/etc/x", "a\n", "a").splitlines()[3:] == ["-a", "+a", "\\ No newline at end of file"]


def test_packages_as_dpkg_tells_them() -> None:
    found = Packages().process(["ii  git", "rc  nginx", "iF  openssl", "un  htop", "interrupted"])
    assert found.installed == {"git"} and found.interrupted
    assert Packages().process(["ii  git"]).interrupted is False


def test_a_script_gets_its_arguments_as_they_are() -> None:
    done = run(operations.shell('printf "%s|" "$@"', "a b", "$HOME", "it's", ""))
    assert done.stdout == "a b|$HOME|it's||"


def test_a_failure_says_its_message_and_fails() -> None:
    done = run(plan_module.failure("app: it's $HOME"))
    assert (done.returncode, done.stderr) == (1, "app: it's $HOME\n")


@pytest.mark.parametrize(
    "script", [base_operations._APT, host_module._ASK, place_module._STEPS, program._CURRENT, program._INSTALL]
)
def test_scripts_are_posix_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Installs in its turn what it is told to; the rest of the packages take until what is meant for meanwhile has begun.
APT_GET = """#!/bin/sh
set -eu
case "$*" in *" install "*) ;; *) exit 1 ;; esac
packages=${*##*=--force-confold install }
case "$packages" in
*git*)
    for _ in $(seq 500); do [ -e "$LOG.meanwhile" ] && break; sleep 0.01; done
    cat "$LOG.meanwhile" >>"$LOG"; ${BROKEN:-true} ;;
esac
echo "$packages" >>"$LOG"
"""


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("meanwhile", ["true", "exit 3"])
def test_programs_are_installed_while_apt_installs_the_rest(tmp_path: Path, meanwhile: str, broken: bool) -> None:
    """What becomes of them is their own operation's affair, and nothing goes on after the packages'."""
    bin_, log = tmp_path / "bin", tmp_path / "log"
    bin_.mkdir()
    for name, text in {"apt-get": APT_GET, "find": "#!/bin/sh\necho lists\n", "dpkg": "", "ls": ""}.items():
        (bin_ / name).write_text(text or "#!/bin/sh\n")
        (bin_ / name).chmod(0o755)
    programs = f'echo programs >"$LOG.meanwhile"; sleep 0.2; echo ended >"$LOG.ended"; echo noise; {meanwhile}'
    given = shlex.split(operations.shell_line(base_operations._APT, programs, "python3", "python3", "git", "htop"))
    environment = os.environ | {"PATH": f"{bin_}:{os.environ['PATH']}", "LOG": str(log)}
    environment |= {"BROKEN": "false"} if broken else {}
    done = subprocess.run(given, env=environment, capture_output=True, text=True, check=False)
    assert ((tmp_path / "log.ended").read_text(), "noise" in done.stdout) == ("ended\n", False)
    assert done.returncode == (1 if broken else 0), done.stdout + done.stderr
    lines = log.read_text().splitlines()
    assert lines == (["python3", "programs", "programs"] if broken else ["python3", "programs", "python3 git htop"])


# ── the host ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_overview_of_this_machine() -> None:
    found = ask(Overview())
    assert found.cores == os.cpu_count() or found.cores == len(os.sched_getaffinity(0))
    assert found.architecture == os.uname().machine
    assert found.root is (os.geteuid() == 0)
    assert found.users["root"] == "/root"
    assert {"/etc/passwd", "/var/lib/dpkg", "group root"} <= found.names
    assert found.memory_mb > 0 and found.disk_free_mb > 0


def test_the_overview_as_a_host_tells_it() -> None:
    lines = """distribution=ubuntu
release=24.04
architecture=aarch64
systemd=1
root=0
cores=2
memory_mb=1968
disk_free_mb=9000
clock=1800000000
container=1
multihomed=0
kept={"format": 7, "slipway": "9.9.9"}
listener=443 apache2 (process 12)
user=root /root
user=odd /home/with space
name=group odd
name=/etc/with space""".splitlines()
    found = Overview().process(lines)
    assert found.name == "ubuntu 24.04"
    assert (found.systemd, found.root, found.cores, found.clock) == (True, False, 2, 1_800_000_000)
    assert found.listeners == {443: "apache2 (process 12)"}
    assert found.users == {"root": "/root", "odd": "/home/with space"}
    assert found.names == {"group odd", "/etc/with space"}
    assert (found.container, found.multihomed) == (True, False)
    assert (found.format, found.slipway) == (7, "9.9.9")
    for kept in ("", "{", "[]", '{"format": null}'):
        lines[11] = f"kept={kept}"
        assert (Overview().process(lines).format, Overview().process(lines).slipway) == (1, "")


@pytest.mark.parametrize(
    ("text", "versions"),
    [
        (
            "nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.8 7 Feb 2023 (running with OpenSSL 3.5.7 9 Jun 2026)",
            Versions((1, 22, 1), (3, 5)),
        ),
        (
            "nginx version: nginx/1.26.3 (Ubuntu)\nbuilt with OpenSSL 3.0.13 30 Jan 2024",
            Versions((1, 26, 3), (3, 0)),
        ),
        ("nginx version: nginx/1.26.3", Versions((1, 26, 3), (0, 0))),
        ("something else", None),
    ],
)
def test_nginxs_and_its_openssls_version(text: str, versions: Versions | None) -> None:
    assert NginxVersion().process(text.splitlines()) == versions


def test_a_units_properties() -> None:
    lines = ["ActiveState=active", "UnitFileState=enabled", "Environment=A=1", ""]
    assert Unit().process(lines) == {"ActiveState": "active", "UnitFileState": "enabled", "Environment": "A=1"}


def test_a_host_without_our_program_tells_nothing() -> None:
    assert ask(HostFacts(), ("no-such-app",)) == {}
    assert HostFacts().process(["Traceback of a program that was edited"]) == {}


def test_what_a_host_tells() -> None:
    told = {"protocol": 1, "nginx": {"live": True}, "apps": {"notes": {"release": "r1"}, "lab": {"error": "no"}}}
    facts = HostFacts().process([json.dumps(told)])
    assert facts == told
    assert (nginx_of(facts), app_of(facts, "notes"), app_of(facts, "lab")) == ({"live": True}, {"release": "r1"}, {})
    assert target_of(facts, "notes") == {} and app_of(facts, "none") == {}
    assert HostFacts().process([json.dumps(told | {"protocol": 2})]) == {}, "of another protocol"


def test_what_a_host_of_an_earlier_slipway_tells(tmp_path: Path) -> None:
    """It has a program for each part, which answers for one app at a time."""
    for name, answer in {
        "slipway-nginx": """echo '{"live": true}'""",
        "slipway-release": """[ "$2" = notes ] && echo '{"release": "r1"}'""",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    for name, days in (("notes", 30), ("lab", -1)):
        live = tmp_path / "live" / name
        live.mkdir(parents=True)
        names = [f"{name}.example.com", f"*.{name}.example.com"]
        (live / "fullchain.pem").write_bytes(certificate(new_key(), names, days))
    (tmp_path / "renewal").mkdir()
    (tmp_path / "renewal/notes.conf").write_text("[renewalparams]\nserver = https://ca.example.com/dir\nkey = x\n")
    question = HostFacts().command(("notes", "lab", "new")).get_raw_value()
    question = question.replace("/opt/slipway/bin", str(tmp_path)).replace("/etc/letsencrypt", str(tmp_path))
    done = subprocess.run(["sh", "-c", question], capture_output=True, text=True, check=True)
    facts = HostFacts().process(done.stdout.splitlines())
    assert (nginx_of(facts), facts["apps"]) == ({"live": True}, {"notes": {"release": "r1"}, "lab": {}, "new": {}})
    domains = ["notes.example.com", "*.notes.example.com"]
    wanted = {"server": "https://ca.example.com/dir", "domains": domains, "valid": True}
    assert facts["certificates"] == {"notes": wanted}, "one that has expired isn't told"
    assert certificate_of(facts, "notes") == wanted and certificate_of(facts, "lab") == {}


def test_when_files_were_changed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    told = ask(Changed(), (f"{tmp_path}/file", f"{tmp_path}/link", f"{tmp_path}/none"))
    now = time.time()
    assert told.keys() == {f"{tmp_path}/file", f"{tmp_path}/link"}
    assert all(now - 60 < each <= now for each in told.values())


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose programs go before the system's."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def program_of(folder: Path, name: str, script: str) -> None:
    """Write a program."""
    (folder / name).write_text(f"#!/bin/sh\n{script}")
    (folder / name).chmod(0o755)


def test_since_when_units_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the links that systemd makes when it starts them; of one that doesn't run it has none."""
    monkeypatch.setattr("slipway.engine.facts._STARTS", f"{tmp_path}/invocation:")
    (tmp_path / "file").touch()
    for unit, since in (("a@x.service", 1796016167_123456000), ("c.service", 1_000000000)):
        link = tmp_path / f"invocation:{unit}"
        link.symlink_to("0f0e1845f1244c039e1dac5c28a77de2")
        os.utime(link, ns=(since, since), follow_symlinks=False)
    told = ask(Changed(), (f"{tmp_path}/file",), ("a@x.service", "b.service", "c.service"))
    assert told.keys() == {f"{tmp_path}/file", "a@x.service", "c.service"}
    assert told["a@x.service"] == 1796016167.123456 and told["c.service"] == 1.0


def test_a_host_without_systemd_tells_of_files_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.engine.facts._STARTS", f"{tmp_path}/none/invocation:")
    (tmp_path / "file").touch()
    assert ask(Changed(), (f"{tmp_path}/file",), ("a.service",)).keys() == {f"{tmp_path}/file"}


def test_whether_systemd_has_read_units_since_their_files_were_changed(tmp_path: Path) -> None:
    read, old, new = (tmp_path / name for name in ("read", "old", "new"))
    for path in (old, read, new):
        path.touch()
        time.sleep(0.02)  # a file's time is of the kernel's last tick
    ((_, [(_, question)]),) = _reread([], [str(old)])
    here = question.replace("/run/systemd/systemd-units-load", str(read))

    def answer(*files: Path) -> str:
        line = here.replace(str(old), shlex.join(map(str, files)))
        return subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout.strip()

    assert answer(old) == "current"
    assert answer(old, new) == answer(new, old) == "", "one was changed since"
    assert answer(old, tmp_path / "none") == "", "one isn't there"
    read.unlink()
    assert answer(old) == "", "systemd doesn't say when it read them"


NFT = """case "$*" in
*"list table inet slipway") echo 'table inet slipway {'; echo '}' ;;
"--guid list set inet slipway apps") cat <<'END' ;;
table inet slipway {
\tset apps {
\t\ttype uid
%s\t}
}
END
"--guid list set inet slipway sites") cat <<'END' ;;
table inet slipway {
\tset sites {
\t\ttype inet_service
\t\telements = { 80, 443,
\t\t\t     8001 }
\t}
}
END
"list chains") echo 'table ip filter {'; echo '\ttype filter hook input priority 0; policy drop;' ;;
esac
"""


@pytest.mark.parametrize(
    ("elements", "users"),
    [
        ("", set()),
        ('\t\telements = { "notes" }\n', {"notes"}),
        ('\t\telements = { "notes", "wiki-next",\n\t\t\t     997 }\n', {"notes", "wiki-next", "997"}),
    ],
)
def test_whom_the_firewall_knows(programs: Path, elements: str, users: set[str]) -> None:
    """By their names; who has none any more is a number."""
    program_of(programs, "nft", NFT % elements)
    program_of(programs, "unshare", 'echo "table inet slipway {"; echo "}"\n')
    wanted = Firewall(True, True, ("ip filter",), frozenset(users), frozenset({80, 443, 8001}))
    assert ask(FirewallState(), "/etc/slipway/firewall.nft") == wanted


def test_a_host_without_our_table_knows_nobody(programs: Path) -> None:
    program_of(programs, "nft", "exit 1\n")
    assert ask(FirewallState(), "/etc/slipway/firewall.nft") == Firewall()


@pytest.mark.parametrize("replaced", [True, False])
def test_who_still_runs_with_what_was_replaced(tmp_path: Path, replaced: bool) -> None:
    """All users at once, those among them that the host doesn't have."""
    library = tmp_path / "lib.so.1"
    library.write_bytes(b"x" * 4096)
    code = (
        "import mmap, sys; file = open(sys.argv[1], 'rb'); "
        "kept = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ); print(1); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-Suc", code, str(library)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout and process.stdout.read(1)
        if replaced:
            library.unlink()
        _, _, told = updates_operations._DUE.partition("[ $# -gt 0 ]")
        asked = operations.shell_line("[ $# -gt 0 ]" + told, "nosuchuser", USER, "nobody")
        done = subprocess.run(["sh", "-c", asked], capture_output=True, text=True, check=False)
        assert process.stdin
        process.stdin.close()
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    if replaced:
        assert f"old={USER}" in lines
    assert {*lines} <= {f"old={USER}", "old=nobody"}


def test_a_history_is_told_as_it_is() -> None:
    lines = ["RELEASE  NOW", "r1       serves"]
    assert ReleaseHistory().process(lines) == lines


def test_a_plan_by_a_program_that_knows_none() -> None:
    """It is an older one, or there is none; no dry run fails of that."""
    assert ask(ReleasePlan(), "notes") == {"error": "the host's program is an older one, which this run replaces"}


# ── what is followed, and under traffic ──────────────────────────────────────────────────────────────────────────────


class FakeHost:
    """In place of pyinfra's host: a command that succeeds or fails after it said something."""

    name = "web"

    def __init__(self, succeeds: bool = True, error: BaseException | None = None) -> None:
        self.succeeds, self.error = succeeds, error
        self.events: list[str] = []
        self.given: dict[str, Any] = {}

    def log(self, message: str, log_func: Any = logger.info) -> None:
        """Note it."""
        self.events.append(f"{log_func.__name__}: {message}")

    def run_shell_command(self, command: StringCommand, **given: Any) -> tuple[bool, CommandOutput]:
        """Note it, and answer as told."""
        self.events.append(f"ran {command.get_raw_value()}")
        self.given = given
        if self.error:
            raise self.error
        return self.succeeds, CommandOutput([OutputLine("stdout", "notes: 1/9 fetch")])


def test_events_are_shown_as_people_read_them_and_tell_what_is_under_way() -> None:
    command = release_operations.Followed("release", "notes", prober=None)
    command.of = "web"
    host_module._under_way.clear()
    begun = {"event": "begun", "app": "notes", "unit": "notes-release", "text": "runs on the host"}
    step = {"event": "step", "app": "notes", "step": "fetch", "number": 1, "of": 9, "seconds": 0.12, "note": None}
    ended = {"event": "ended", "app": "notes", "code": 1, "release": "r1", "error": "it failed"}
    assert isinstance(command, Tells)
    assert command.told(json.dumps(begun)) == "notes: runs on the host"
    assert host_module.under_way("web") == ["notes"]
    assert command.told(json.dumps(step)) == "notes: 1/9 fetch 0.1 s"
    assert command.told("Killed") == "Killed"
    assert command.told(json.dumps(ended)) == "it failed"
    assert host_module.under_way("web") == []


class FakeProber:
    """In place of traffic."""

    def __init__(self, host: FakeHost, *, failed: int = 0, refused: str = "") -> None:
        self.host, self.failed, self.refused = host, failed, refused

    def start(self) -> None:
        """Begin, or refuse to."""
        self.host.events.append("prober started")
        if self.refused:
            raise ProberError(self.refused)

    def stop(self) -> Result:
        """The result."""
        self.host.events.append("prober stopped")
        return Result(100, self.failed, 0, 0.01, 0.02, 0.1, 0.2, 5.0, counts={"short": 100 - self.failed})

    def close(self) -> None:
        """Leave nothing behind."""
        self.host.events.append("prober closed")


def followed(host: FakeHost, prober: FakeProber | None) -> tuple[bool, list[str]]:
    """Whether a release succeeds on `host`, and the output that pyinfra would print once more."""
    command = release_operations.Followed("release", "notes", prober=cast(Any, prober), _stdin="{}")
    state = SimpleNamespace(print_input=False)
    done, output = command.execute(cast(Any, state), cast(Any, host), cast(Any, {"_sudo": True}))
    return done, output.output_lines


def test_a_release_is_followed() -> None:
    host = FakeHost()
    assert followed(host, None) == (True, ["notes: 1/9 fetch"])
    assert host.events == ["ran /opt/slipway/bin/slipway release notes"]
    assert host.given == {"print_output": True, "print_input": False, "_sudo": True, "_stdin": "{}"}


def test_a_release_that_fails_is_not_told_twice() -> None:
    """pyinfra prints the output of what failed, which was shown already."""
    assert followed(FakeHost(succeeds=False), None) == (False, [])


def test_a_release_under_traffic() -> None:
    host = FakeHost()
    assert followed(host, FakeProber(host)) == (True, ["notes: 1/9 fetch"])
    assert host.events[:4] == [
        "prober started",
        "info: traffic flows",
        "ran /opt/slipway/bin/slipway release notes",
        "prober stopped",
    ]
    assert len(host.events) == 5 and host.events[4].startswith("info: 100 requests, 0 failed, ")


def test_a_lost_request_fails_the_run() -> None:
    host = FakeHost()
    assert followed(host, FakeProber(host, failed=2))[0] is False
    assert host.events[-1].startswith("error: 100 requests, 2 failed")


def test_nothing_begins_where_no_traffic_flows() -> None:
    host = FakeHost()
    assert followed(host, FakeProber(host, refused="/slow answers 404")) == (False, [])
    assert host.events == ["prober started", "error: nothing was begun: /slow answers 404"]


def test_the_traffic_ends_whatever_happens() -> None:
    host = FakeHost(succeeds=False)
    assert followed(host, FakeProber(host)) == (False, [])
    assert "prober stopped" in host.events
    host = FakeHost(error=OSError("the connection broke"))
    with pytest.raises(OSError, match="the connection broke"):
        followed(host, FakeProber(host))
    assert "prober stopped" in host.events


def test_an_interruption_breaks_the_traffic_off() -> None:
    """Nobody waits for what became of it, nor for the slow requests under way."""
    host = FakeHost(error=gevent.GreenletExit())
    with pytest.raises(gevent.GreenletExit):
        followed(host, FakeProber(host))
    assert host.events[-1] == "prober closed"
    assert "prober stopped" not in host.events


# ── git ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, str]]:
    """URL of a repository with branches and tags, and name → commit."""
    folder = tmp_path_factory.mktemp("repository")
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}

    def git(*arguments: str) -> str:
        argv = ["git", "-C", str(folder), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, env=environment | who).stdout.strip()

    def commit(message: str) -> str:
        git("commit", "--quiet", "--allow-empty", "-m", message)
        return git("rev-parse", "HEAD")

    git("init", "--quiet", "--initial-branch=main")
    made = {"v1": commit("one")}
    git("tag", "v1")
    made["v2"] = commit("two")
    git("tag", "--annotate", "-m", "two", "v2")
    made["both"] = commit("three")
    git("branch", "both")
    git("tag", "--annotate", "-m", "not the branch", "both", made["v1"])
    made["main"] = made["HEAD"] = commit("four")
    git("branch", "feature/x", made["v1"])
    made["feature/x"] = made["v1"]
    for name in ("refs/heads/main", "a/refs/heads/main", "a/refs/tags/v2", "HEAD", "a/HEAD"):
        git("update-ref", f"refs/heads/{name}", made["v1"])  # what whoever may push a branch may call it
    return f"file://{folder}", made


@pytest.mark.parametrize("ref", ["main", "v1", "v2", "both", "feature/x", "HEAD"])
def test_a_ref_is_looked_up(repository: tuple[str, dict[str, str]], ref: str) -> None:
    """A tag with a message gives its commit, and a branch goes before a tag of its name. No other name will do."""
    url, commits = repository
    assert ask(GitCommits(), ((url, ref, ""),)) == {0: commits[ref]}


@pytest.mark.parametrize("ref", ["x", "v", "mai", "refs/heads/none"])
def test_a_ref_that_is_not_there(repository: tuple[str, dict[str, str]], ref: str) -> None:
    url, _ = repository
    assert ask(GitCommits(), ((url, ref, ""),)) == {0: "error: there is no such branch or tag"}


def test_a_repository_that_is_not_there(tmp_path: Path) -> None:
    found = ask(GitCommits(), ((f"file://{tmp_path}/none", "main", ""),))[0]
    assert found.startswith("error: ") and "does not appear to be a git repository" in found
    assert found.endswith("\ngit ls-remote ended with 128")


def test_refs_are_looked_up_all_at_once(repository: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    """More than are asked side by side; what one says is told of no other."""
    url, commits = repository
    none = f"file://{tmp_path}/none"
    sources: list[Git] = [(url if number % 2 else none, ref, "") for number, ref in enumerate(["main", "v1"] * 10)]
    found = ask(GitCommits(), tuple(sources))
    assert sorted(found) == list(range(20))
    assert {found[number] for number in range(1, 20, 2)} == {commits["v1"]}
    assert all("does not appear to be a git repository" in found[number] for number in range(0, 20, 2))


def test_a_key_is_one_repositorys_alone(tmp_path: Path) -> None:
    """git runs the command that it is given for each."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{name} was called' >&2; exit 1\n")
        (tmp_path / name).chmod(0o755)
    sources = tuple((f"git@git.invalid:{name}.git", "main", f"{tmp_path}/{name}") for name in ("a", "b"))
    found = ask(GitCommits(), sources)
    assert "a was called" in found[0] and "b was called" not in found[0]
    assert "b was called" in found[1] and "a was called" not in found[1]


def test_what_a_server_says_of_another_is_not_believed() -> None:
    """All that it says has its own number before it, and its first word."""
    lines = [f"0 1 {'b' * 40}\trefs/heads/main", "0 1 ended 0", "0 ended 0"]
    lines += [f"1 {'a' * 40}\trefs/heads/main", "1 ended 0"]
    assert GitCommits().process(lines) == {0: "error: there is no such branch or tag", 1: "a" * 40}


def test_an_answer_of_ssh_before_the_commit_is_passed_over() -> None:
    lines = ["Warning: Permanently added 'git.example.com' to the list of known hosts.", f"{'a' * 40}\trefs/heads/main"]
    assert GitCommits().process([f"0 {line}" for line in [*lines, "ended 0"]]) == {0: "a" * 40}


# ── self-signed certificates ─────────────────────────────────────────────────────────────────────────────────────────

NAMES = "DNS:a.example.com,DNS:*.b.example.com"
DOMAINS = {"a.example.com", "*.b.example.com"}


def signed(*folders: Path) -> list[set[str]]:
    """For which domains the certificates in `folders` are, of those that the TLS role would leave as they are."""
    paths = [str(folder / name) for folder in folders for name in ("chain.pem", "key.pem")]
    question = operations.shell_line(tls._SIGNED, *paths)
    done = subprocess.run(["sh", "-c", question], capture_output=True, text=True, check=False, cwd=folders[0])
    assert (done.returncode, done.stderr) == (0, "")
    found = tls.whole(done.stdout)
    assert {*found} <= {str(folder / "chain.pem") for folder in folders}
    return [*found.values()]


def sign(folder: Path, names: str = NAMES, days: int = 365) -> None:
    """Sign a certificate as the TLS role does."""
    done = run(operations.shell(tls._SIGN, str(folder / "chain.pem"), str(folder / "key.pem"), names, "x", str(days)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_certificate_that_is_signed_is_left_alone(tmp_path: Path) -> None:
    assert signed(tmp_path) == []
    sign(tmp_path)
    assert signed(tmp_path) == [DOMAINS]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chain.pem", "key.pem"]
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


def test_certificates_are_told_of_all_at_once(tmp_path: Path) -> None:
    """A file that fits a wildcard's name isn't taken for it."""
    a, b, none = (tmp_path / name for name in ("a", "b", "none"))
    for folder in (a, b, none):
        folder.mkdir()
    sign(a)
    (a / "DNS:x.b.example.com").touch()
    sign(b, "DNS:c.example.com")
    assert signed(a, none, b) == [DOMAINS, {"c.example.com"}]


def test_a_certificate_is_signed_anew_a_month_before_it_ends(tmp_path: Path) -> None:
    sign(tmp_path, days=29)
    assert signed(tmp_path) == []
    sign(tmp_path, days=31)
    assert signed(tmp_path) == [DOMAINS]


def test_a_certificate_without_its_key_is_signed_anew(tmp_path: Path) -> None:
    """A run that was killed between the two files."""
    sign(tmp_path)
    chain = (tmp_path / "chain.pem").read_bytes()
    sign(tmp_path)
    (tmp_path / "chain.pem").write_bytes(chain)
    assert signed(tmp_path) == []
    (tmp_path / "key.pem").unlink()
    assert signed(tmp_path) == []


@pytest.mark.parametrize("script", [tls._SIGN, tls._SIGNED, tls._INSTALL, tls._INSTALLED])
def test_scripts_of_the_tls_role_are_posix_shell(script: str) -> None:
    done = subprocess.run(["sh", "-n", "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_traffic_whose_result_is_lost_fails_the_run() -> None:
    """Whether a request was lost isn't known: that is no success, and no traceback."""

    class Broken(FakeProber):
        def stop(self) -> Result:
            raise ProberError("the prober ended by itself")

    host = FakeHost()
    assert followed(host, Broken(host))[0] is False
