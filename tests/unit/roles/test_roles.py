"""What each role would do to a host, planned without one: order, names, owners, secrets, and doing nothing twice."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import re
import shlex
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from paramiko import ECDSAKey, RSAKey
from slipway_host import VERSION
from slipway_host.protocol import FORMAT

from roles import app as app_role
from roles import firewall, ssh
from roles import tls as tls_role
from roles.access import access
from roles.app import app, worker_count
from roles.base import base
from roles.base import operations as base_operations
from roles.base import role as base_role
from roles.base.facts import Packages
from roles.firewall.facts import Firewall, FirewallState
from roles.nginx import nginx, nginx_sandbox, nginx_with_certificates
from roles.nginx.facts import NginxVersion, Versions
from roles.preflight import SUPPORTED, PreflightError, preflight, problems, provisioned
from roles.preflight import overview as overview_of
from roles.python import python, pythons, uv
from roles.release import digest, git_ssh, history, release, rollback, wanted
from roles.release import operations as release_operations
from roles.release.facts import Git, GitCommits, ReleaseHistory, ReleasePlan
from roles.ssh.facts import Sshd, SshdState
from roles.tls import certbot, tls
from roles.verdict import verdict
from slipway.engine import operations
from slipway.engine import place as place_module
from slipway.engine.facts import Answer, Changed, Existing, Place, Places, Unit
from slipway.engine.host import PROGRAM
from slipway.engine.overview import HostOverview, Overview
from slipway.engine.place import File
from slipway.engine.program import Program
from slipway.settings import RunOptions, Settings, render_env
from slipway.settings.folder import SourceError
from slipway.settings.release import HOOKS
from slipway.transport import paramiko_api
from tests.unit.inventories import MARK, MAXIMAL
from tests.unit.plans import (
    COMMIT,
    Facts,
    NginxStatus,
    Operation,
    Plan,
    Planner,
    ReleaseStatus,
    RollbackTarget,
    status_of,
    wanted_by,
    ways_in,
)
from tests.unit.plans import (
    RELEASE as RELEASING,
)

MakeSettings = Callable[[Mapping[str, Any]], Settings]
Converge = Callable[[Mapping[str, Any]], Facts]


def change(data: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """`data` with the setting at a dotted path set; the app is ``notes``."""
    *above, last = path.replace("<app>", "apps.notes").split(".")
    at = data
    for part in above:
        at = at.setdefault(part, {})
    at[last] = value
    return data


# ── the whole of deploy.py ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["minimal_data", "maximal_data"])
def data(request: pytest.FixtureRequest) -> dict[str, Any]:
    """An inventory with every default, and one with none."""
    made: dict[str, Any] = request.getfixturevalue(request.param)
    return made


def test_the_roles_follow_one_another(plan_deploy: Planner, data: dict[str, Any]) -> None:
    titles = [name.split(" | ")[0] for name in plan_deploy(data).names]
    order = [title for at, title in enumerate(titles) if at == 0 or titles[at - 1] != title]
    roles = [
        "Nginx",
        "Base",
        "Program",
        "System",
        "Updates",
        "Access",
        "Python",
        "App",
        "Nginx",
        "TLS",
        "Nginx",
        "Release",
    ]
    assert order == [*roles, "Updates", "Verdict"]


def test_every_operation_has_a_name_of_its_own(plan_deploy: Planner, data: dict[str, Any]) -> None:
    names = plan_deploy(data).names
    assert sorted({name for name in names if names.count(name) > 1}) == []
    for name in names:
        roles = "Base|Program|System|Updates|Access|Python|App|Nginx|TLS|Release|Verdict"
        assert re.fullmatch(rf"({roles}) \| [A-Z].*[^.]", name), name


def test_no_secret_but_on_standard_input(plan_deploy: Planner, maximal_data: dict[str, Any], folder: Path) -> None:
    secrets = [MARK]
    for key in ("key.pem", "deploy_key"):
        secrets += (folder / key).read_text().splitlines()[1:-1]
    done = plan_deploy(maximal_data)
    for operation in done:
        for text in (operation.name, *operation.reasons, *operation.lines, *(c.shown for c in operation.commands)):
            assert not [secret for secret in secrets if secret in text], f"{operation.name}: {text}"
    secret_files = {
        path for path, write in done.writes.items() if any(each.encode() in write.content for each in secrets)
    }
    assert secret_files == {
        "/etc/notes/dependencies_key",
        "/etc/notes/env",
        "/etc/notes/files/config@local.ini",
        "/etc/slipway/tls/certbot.ini",
        "/etc/slipway/tls/wiki-next/privkey.pem",
        "/etc/wiki-next/deploy_key",
    }
    for path in secret_files:
        assert done.writes[path].mode in ("600", "640"), f"{path} is {done.writes[path].mode}"


def test_no_secret_in_a_diff(
    plan: Planner,
    maximal: Settings,
    overview: HostOverview,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "pyinfra")
    for role, arguments in (
        (app, (maximal, overview)),
        (tls, (maximal,)),
        (release, (maximal, overview, RunOptions())),
    ):
        plan(role, *arguments, diff=True)
    shown = caplog.text + "".join(capfd.readouterr())
    assert "not shown: it may hold secrets" in shown and "Managed by Slipway" in shown, "the diff isn't captured"
    assert MARK not in shown and "PRIVATE KEY" not in shown


def test_every_file_and_folder_has_an_owner_and_a_mode(plan_deploy: Planner, data: dict[str, Any]) -> None:
    done = plan_deploy(data)
    for path, write in done.writes.items():
        assert re.fullmatch(r"/[a-zA-Z0-9._/@-]+", path)
        assert write.user and write.group and re.fullmatch(r"[0-7]{3}", write.mode), write
        assert int(write.mode, 8) & 0o022 == 0, f"others may write {path}: {write.mode}"
    folders = done.steps("folder")
    assert folders
    for path, (owner, mode) in folders.items():
        assert re.fullmatch(r"[a-z_-]+:[a-z_-]+", owner) and int(mode, 8) & 0o022 == 0, f"{path}: {owner} {mode}"


def test_every_folder_is_there_before_what_is_put_into_it(plan_deploy: Planner, data: dict[str, Any]) -> None:
    folders = {
        "/etc/systemd/system",
        "/etc",
        "/etc/apt",
        "/usr/sbin",
        "/usr/share/pam-configs",
        "/opt",
        "/srv",
        "/var/lib",
        "/var/cache",
        "/etc/systemd",
    }
    for operation in plan_deploy(data):
        for path in operation.steps("folder"):
            assert str(Path(path).parent) in folders, f"{operation.name}: {path}"
            folders.add(path)
        for path in [*operation.writes, *operation.steps("link")]:
            assert str(Path(path).parent) in folders, f"{operation.name}: {path}"


def test_the_second_run_changes_nothing_and_says_why(
    plan_deploy: Planner, converge: Converge, data: dict[str, Any]
) -> None:
    second = plan_deploy(data, facts=converge(data))
    single = ("TLS | Order the certificate of", "Release | Release ")
    first = [name for name in plan_deploy(data).names if not name.startswith(single)]
    assert [name for name in second.names if name not in (CERTIFICATES, SERVING)] == first
    assert {CERTIFICATES, SERVING} < {*second.names}
    assert second.changes == []
    for operation in second:
        assert operation.reasons, f"{operation.name} doesn't say why it does nothing"


STATIC = MAXIMAL["apps"]["notes"]["static"]
WAYS_IN = "Access | Change access, proven by a new connection"
SITES = ["Nginx | Configure the sites"]
ENVIRONMENT = "Release | Write what servers share, and the apps' environments"
RELEASE = "Release | Release notes"
CERTIFICATES = "TLS | Keep the certificates that are there"
SERVING = "Release | Keep what serves"
BOUNDS = "App | Write down what apps may take, and builds reach"


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("<app>.env", {"LOG_LEVEL": "debug", "DEBUG": False}, [ENVIRONMENT, RELEASE]),
        ("<app>.workers", 4, [ENVIRONMENT, RELEASE]),
        ("<app>.port", 8003, [BOUNDS, "App | Let the firewall know the apps", *SITES, ENVIRONMENT, RELEASE]),
        ("<app>.timeout", 40, [RELEASE]),
        ("<app>.graceful_timeout", 50, [*SITES, RELEASE]),
        ("<app>.graceful_timeout", 20, [*SITES, RELEASE]),
        ("<app>.umask", "0027", [RELEASE]),
        ("<app>.app", "notes.main:other", [RELEASE]),
        ("<app>.python", "3.11", ["Python | Install Python 3.11", RELEASE]),
        ("<app>.migrate", None, [RELEASE]),
        ("<app>.static", [STATIC[0] | {"path": "assets"}, *STATIC[1:]], [*SITES, RELEASE]),
        ("<app>.static", [STATIC[0] | {"max_age": 61}, *STATIC[1:]], SITES),
        ("<app>.build", ["make"], [RELEASE]),
        ("<app>.node", False, []),
        ("<app>.shared", ["media"], [RELEASE]),
        ("<app>.shared_files", {"config/local.ini": "local.ini"}, [RELEASE]),
        ("<app>.max_body_size", "26m", SITES),
        ("<app>.proxy_timeout", 47, SITES),
        ("<app>.headers", {"x_frame_options": None}, SITES),
        ("<app>.rate_limits", {}, SITES),
        ("<app>.maintenance", False, SITES),
        ("<app>.compress", False, SITES),
        ("<app>.sandbox", {"network": "internet"}, [RELEASE]),
        ("<app>.trusted_proxies", [], [WAYS_IN, *SITES]),
        ("<app>.readiness_timeout", 46, [RELEASE]),
        ("<app>.readiness_interval", 9, [RELEASE]),
        ("<app>.keep_releases", 4, [RELEASE]),
        ("<app>.drain_timeout", 40, [*SITES, RELEASE]),
        ("<app>.keep_warm", 40, [RELEASE]),
        ("<app>.watch", 0, [RELEASE]),
        ("<app>.hooks", {"after_switch": "bin/page"}, [RELEASE]),
        ("<app>.migrate_retries", 0, [RELEASE]),
        ("<app>.lock_wait", 0, []),
        ("<app>.probe", {"short": ["/"]}, []),
        ("nginx.worker_connections", 2000, SITES),
        ("nginx.sandbox", False, ["Nginx | Write the sandbox of nginx", "Nginx | Enable nginx"]),
        (
            "journal_max_size",
            "3G",
            ["Base | Make folders, and cap the journal", "Base | Restart the journal with its cap"],
        ),
        ("packages", ["libpq5", "htop"], ["Base | Install packages"]),
        ("acme.email", "other@example.com", ["TLS | Write what certificates need"]),
    ],
)
def test_a_setting_changes_what_it_touches_alone(
    plan_deploy: Planner,
    converge: Converge,
    maximal_data: dict[str, Any],
    path: str,
    value: Any,
    changes: list[str],
) -> None:
    facts = converge(maximal_data)
    # What no earlier run left: a Python that wasn't asked for.
    answer = facts[Answer]
    facts[Answer] = lambda question: "" if "/opt/slipway/python 3.11" in question else answer(question)
    assert plan_deploy(change(maximal_data, path, value), facts=facts).changes == changes


@pytest.mark.parametrize(
    ("path", "edit", "changes"),
    [
        ("/etc/notes/env", {"digest": "0"}, [ENVIRONMENT]),
        ("/etc/notes/env", {"mode": "644"}, [ENVIRONMENT]),
        ("/etc/notes/env", {"group": "root"}, [ENVIRONMENT]),
        ("/etc/notes/env", {"kind": "l"}, [ENVIRONMENT]),
        ("/etc/slipway/tls/wiki-next/privkey.pem", {"user": "notes"}, ["TLS | Write what certificates need"]),
        ("/opt/slipway/bin/uv", {"target": "/usr/bin/uv"}, ["Python | Link uv"]),
        ("/srv/notes", {"user": "notes"}, ["App | Give each app its users and folders"]),
    ],
)
def test_what_was_edited_is_put_right_and_nothing_else(
    plan_deploy: Planner,
    converge: Converge,
    maximal_data: dict[str, Any],
    path: str,
    edit: dict[str, str],
    changes: list[str],
) -> None:
    facts = converge(maximal_data)
    known = facts[Places]

    def edited(**asked: tuple[str, ...]) -> dict[str, Place]:
        found: dict[str, Place] = known(**asked)
        return found | ({path: dataclasses.replace(found[path], **edit)} if path in found else {})

    done = plan_deploy(maximal_data, facts=facts | {Places: edited})
    assert done.changes == changes
    touched = {about: words for verb in ("put", "link", "folder") for about, words in done.steps(verb).items()}
    assert list(touched) == [path]


# ── preflight ────────────────────────────────────────────────────────────────────────────────────────────────────────

NOW = 1_800_000_000.0


@pytest.fixture
def good(overview: HostOverview) -> HostOverview:
    """A host that nothing speaks against at `NOW`."""
    return dataclasses.replace(overview, clock=int(NOW))


def test_nothing_speaks_against_a_good_host(good: HostOverview, maximal: Settings) -> None:
    assert problems(good, maximal, NOW) == []


OF_ANOTHER = "of something else; expected nothing of that name: rename the app, or move that away"


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            {"release": "11"},
            (
                "the operating system is debian 11; expected debian 12 or debian 13 or ubuntu 24.04: "
                "reinstall the machine with one of them"
            ),
        ),
        ({"architecture": "armv7l"}, "the architecture is armv7l; expected x86_64 or aarch64"),
        (
            {"systemd": False},
            "systemd isn't running as process 1; expected a machine (or a container) that boots with it",
        ),
        (
            {"root": False},
            (
                'commands don\'t run as root; expected "ssh_user": "root" in the inventory, or "_sudo": True with a '
                "user who may sudo without a password"
            ),
        ),
        ({"memory_mb": 399}, "memory is 399 MB; expected at least 400 MB: choose a larger machine"),
        (
            {"disk_free_mb": 1023},
            (
                "1023 MB are free for /srv; expected at least 1024 MB: free some (`journalctl --vacuum-size=200M`, "
                "`apt-get clean`) or enlarge the disk"
            ),
        ),
        (
            {"clock": int(NOW) - 301},
            "the host's clock differs from yours by 301 s; expected at most 300 s: set it (`timedatectl set-ntp true`)",
        ),
        (
            {"clock": int(NOW) + 7200},
            (
                "the host's clock differs from yours by 7200 s; expected at most 300 s: "
                "set it (`timedatectl set-ntp true`)"
            ),
        ),
        (
            {"listeners": {80: "apache2 (process 12)"}},
            "port 80 is taken by apache2 (process 12); expected it free or nginx's: stop and disable that program",
        ),
        (
            {"listeners": {80: "nginx (process 9)", 443: "nginxish (process 12)"}},
            "port 443 is taken by nginxish (process 12); expected it free or nginx's: stop and disable that program",
        ),
        (
            {"users": {"notes": "/home/notes"}},
            f"slipway.apps.notes: the host already has a user notes with the home /home/notes, {OF_ANOTHER}",
        ),
        (
            {"users": {"notes": "/var/lib/notes", "_notes": "/nonexistent"}},
            f"slipway.apps.notes: the host already has a user _notes with the home /nonexistent, {OF_ANOTHER}",
        ),
        (  # a package's, whose home is where ours would be
            {"users": {"notes": "/var/lib/notes"}, "names": frozenset({"/var/lib/notes", "/etc/notes", "group notes"})},
            "slipway.apps.notes: the host already has a user notes, group notes, /etc/notes, /var/lib/notes, "
            + OF_ANOTHER,
        ),
        *(
            (
                {"names": frozenset({name, "/etc/nothing"})},
                f"slipway.apps.notes: the host already has {name}, {OF_ANOTHER}",
            )
            for name in (
                "/etc/notes",
                "/srv/notes",
                "/run/notes",
                "/var/lib/notes",
                "group notes",
                "group _notes",
                "/usr/lib/systemd/system/notes.service",
                "/etc/systemd/system/notes@.service",
                "/run/systemd/system/notes.timer",
            )
        ),
    ],
)
def test_a_reason_against_a_host(good: HostOverview, minimal: Settings, found: dict[str, Any], message: str) -> None:
    assert problems(dataclasses.replace(good, **found), minimal, NOW) == [message]


@pytest.mark.parametrize(
    "found",
    [
        *({"distribution": name.split()[0], "release": name.split()[1]} for name in SUPPORTED),
        {"architecture": "aarch64"},
        {"memory_mb": 400},
        {"disk_free_mb": 1024},
        {"clock": int(NOW) - 300},
        {"listeners": {80: "nginx (process 9)", 443: "nginx (process 9)"}},
        # Of an earlier run, that may have been killed, or of a Slipway that knew no builders.
        {"users": {"_notes": "/var/cache/slipway/notes/home"}, "names": frozenset({"group _notes"})},
        {
            "users": {"notes": "/var/lib/notes", "_notes": "/var/cache/slipway/notes/home"},
            "names": frozenset({"group notes", "/etc/notes", "/srv/notes", "/run/notes", "/var/lib/notes"}),
        },
        {"users": {"notes": "/var/lib/notes"}, "names": frozenset({"group notes", "/etc/notes", "/srv/notes"})},
        {"names": frozenset({"/etc/notes", "/srv/notes", "/var/lib/slipway/notes"})},  # its users were deleted
        {"names": frozenset({"/etc/notes-of-mine", "/srv/note", "/usr/lib/systemd/system/notes2.service"})},
    ],
)
def test_what_is_just_good_enough(good: HostOverview, minimal: Settings, found: dict[str, Any]) -> None:
    assert problems(dataclasses.replace(good, **found), minimal, NOW) == []


def test_an_architecture_without_uvs_hash(
    good: HostOverview, make_settings: MakeSettings, minimal_data: dict[str, Any]
) -> None:
    minimal_data["python"] = {"uv": {"version": "0.13.9", "sha256": {"aarch64": "a" * 64}}}
    assert problems(good, make_settings(minimal_data), NOW) == [
        "slipway.python.uv.sha256 has no SHA-256 for x86_64: add that of uv 0.13.9's wheel"
    ]


def test_every_reason_is_told_at_once(plan: Planner, overview: HostOverview, minimal: Settings, bare: Facts) -> None:
    poor = dataclasses.replace(overview, memory_mb=1, root=False)
    with pytest.raises(PreflightError) as told:
        plan(preflight, minimal, facts=bare | {Overview: poor})
    first, *reasons = str(told.value).splitlines()
    assert first == "@fake can't be provisioned, for 2 reasons; it was not touched."
    assert [reason[:18] for reason in reasons] == ["  - commands don't", "  - memory is 1 MB"]
    with pytest.raises(
        PreflightError, match=r"^@fake can't be provisioned, for 1 reason; it was not touched\.\n  - memory"
    ):
        plan(preflight, minimal, facts=bare | {Overview: dataclasses.replace(overview, memory_mb=1)})


def test_an_older_slipway_does_not_touch_a_newer_ones_host(
    plan: Planner, overview: HostOverview, minimal: Settings, bare: Facts
) -> None:
    newer = bare | {Overview: dataclasses.replace(overview, format=FORMAT + 1, slipway="9.9.9")}
    told = (
        f"@fake is kept by Slipway 9.9.9 (format {FORMAT + 1}), and this is Slipway {VERSION}, which knows none above "
        f"{FORMAT}: upgrade it, to 9.9.9 at least. The host was not touched."
    )
    for first in (lambda: preflight(minimal), overview_of):
        with pytest.raises(PreflightError, match=f"^{re.escape(told)}$"):
            plan(first, facts=newer)


def test_nothing_is_planned_for_a_host_that_is_refused(
    plan_deploy: Planner, minimal_data: dict[str, Any], overview: HostOverview, bare: Facts
) -> None:
    with pytest.raises(PreflightError):
        plan_deploy(minimal_data, facts=bare | {Overview: dataclasses.replace(overview, systemd=False)})


# ── base ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_base_installs_only_what_is_missing(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    (line,) = plan(base, maximal, overview)("Install packages").commands
    assert line.argv[4:6] == ["", "ca-certificates python3-pip-whl"]
    own = [
        "ca-certificates",
        "python3-pip-whl",
        "git",
        "logrotate",
        "nftables",
        "nginx",
        "openssh-client",
        "openssl",
        "tzdata",
    ]
    assert line.argv[6:][: len(own)] == own and line.argv[-1] == "libpq5"
    assert {"nftables", "unattended-upgrades"} < set(line.argv[6:]), "other roles' too"


def test_programs_that_are_due_are_installed_while_packages_are(
    plan: Planner, maximal: Settings, overview: HostOverview, bare: Facts
) -> None:
    programs = [uv(maximal, overview), *pythons(maximal), *certbot(maximal)]
    (line,) = plan(base, maximal, overview, programs)("Install packages").commands
    assert line.argv[4] == " && ".join(program.line for program in programs)
    there = bare | {Answer: lambda question: "yes" if question == programs[1].satisfied else ""}
    (line,) = plan(base, maximal, overview, programs, facts=there)("Install packages").commands
    assert line.argv[4] == " && ".join(program.line for program in programs if program is not programs[1])


def test_what_installs_a_program_early_is_what_its_own_operation_does(
    plan: Planner, maximal: Settings, overview: HostOverview
) -> None:
    early = [uv(maximal, overview), *pythons(maximal), *certbot(maximal)]
    later = [*plan(python, maximal, overview), *plan(tls, maximal)]
    lines = [each.lines for each in later if each.name.split(" | ")[1] in {f"Install {one.title}" for one in early}]
    assert lines == [[program.line] for program in early]


@pytest.mark.parametrize("there", [True, False])
def test_a_program_is_installed_once(
    there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maximal: Settings, overview: HostOverview
) -> None:
    """Whoever comes second finds it."""
    monkeypatch.setattr("slipway.engine.program.INSTALLING", f"{tmp_path}/run/install.lock")
    mark = tmp_path / "it's here"
    if there:
        mark.touch()
    write = operations.shell_line('echo "$2" >"$1"', str(mark), "made")
    program = Program("it", operations.shell_line('[ ! -e "$1" ] || echo yes', str(mark)), write)
    for _ in range(2):
        assert subprocess.run(["sh", "-c", program.line], check=False).returncode == 0
        assert mark.read_text() == ("" if there else "made\n")
        write_again = dataclasses.replace(program, command="exit 3")
        assert subprocess.run(["sh", "-c", write_again.line], check=False).returncode == 0
    mark.unlink()
    assert subprocess.run(["sh", "-c", write_again.line], check=False).returncode == 3
    modes = [stat.S_IMODE((tmp_path / path).stat().st_mode) for path in ("run", "run/install.lock")]
    assert modes == [0o755, 0o600], "nobody else can open it, and so hold it"


def test_programs_bring_what_they_are_installed_from(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    done = plan(base, maximal, overview, certbot(maximal))
    assert done.names.index("Base | Make folders, and cap the journal") < done.names.index("Base | Install packages")
    locked = done.writes["/opt/slipway/certbot-requirements.txt"].text
    for block in re.split(r"\n(?=\S)", locked):
        assert block.startswith("#") or "--hash=sha256:" in block, block
    assert re.search(r"^certbot==[5-9]", locked, re.MULTILINE)


def test_an_interrupted_dpkg_is_repaired_though_nothing_is_missing(
    plan: Planner, converge: Converge, minimal: Settings, minimal_data: dict[str, Any], overview: HostOverview
) -> None:
    facts = converge(minimal_data)
    assert plan(base, minimal, overview, facts=facts)("Install packages").reasons == ["the packages are installed"]
    broken = facts | {Packages: dataclasses.replace(facts[Packages], interrupted=True)}
    (line,) = plan(base, minimal, overview, facts=broken)("Install packages").commands
    assert line.argv[2:] == [base_operations._APT, "slipway", "", ""]


def test_base_sets_the_time_zone(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    (command,) = plan(base, maximal, overview)("Set the time zone to Europe/Berlin").commands
    assert command.argv[2:] == [base_role._ZONE, "slipway", "Europe/Berlin"]
    checked, *_ = base_role._ZONE.split("set -eu")[1].split()
    assert checked == "test", "a wrong name must not break the clock"


def test_the_hosts_name_is_left_alone_unless_set(
    plan: Planner, minimal: Settings, maximal: Settings, overview: HostOverview
) -> None:
    assert not [name for name in plan(base, minimal, overview).names if "Name the host" in name]
    (command,) = plan(base, maximal, overview)("Name the host box").commands
    assert command.argv[2:] == [base_role._NAME, "slipway", "box"]


def test_the_journal_restarts_when_its_cap_is_younger_or_about_to_be(
    plan: Planner,
    converge: Converge,
    minimal: Settings,
    minimal_data: dict[str, Any],
    bare: Facts,
    overview: HostOverview,
) -> None:
    name, restart = "Restart the journal with its cap", ["systemctl restart systemd-journald.service"]
    converged = converge(minimal_data)
    assert plan(base, minimal, overview, facts=converged)(name).lines == []
    times = {"systemd-journald.service": 100.5, "/etc/systemd/journald.conf.d/50-slipway.conf": 100.25}
    assert plan(base, minimal, overview, facts=converged | {Changed: times})(name).lines == []
    times["/etc/systemd/journald.conf.d/50-slipway.conf"] = 100.75
    assert plan(base, minimal, overview, facts=converged | {Changed: times})(name).lines == restart
    assert plan(base, minimal, overview)(name).lines == restart, "this run writes its cap"


# ── python ───────────────────────────────────────────────────────────────────────────────────────────────────────────


UV = {
    "x86_64": "e18a57b8b352eb7c8feb317b9f6f533c8f0ad9673fd6cf34bbe3cf1a9f6a8984",
    "aarch64": "0b3e8b1a4f5e405e31e2ff33de8af4744831e9f7338539671efbd8c3c94e791d",
}
"""Architecture → SHA-256 of uv's wheel."""


@pytest.mark.parametrize("architecture", UV)
def test_uv_is_pinned_by_hash(minimal: Settings, overview: HostOverview, architecture: str) -> None:
    version = minimal.python.uv.version
    argv = shlex.split(uv(minimal, dataclasses.replace(overview, architecture=architecture)).command)
    assert argv[4:] == [f"/opt/slipway/uv/{version}", f"uv=={version} --hash=sha256:{UV[architecture]}"]
    assert "--require-hashes" in argv[2] and "--only-binary=:all:" in argv[2]


def test_uv_of_the_users_own(make_settings: MakeSettings, minimal_data: dict[str, Any], overview: HostOverview) -> None:
    minimal_data["python"] = {"uv": {"version": "0.13.9", "sha256": {"x86_64": "a" * 64}}}
    program = uv(make_settings(minimal_data), overview)
    assert program.title == "uv 0.13.9"
    assert shlex.split(program.command)[5] == f"uv==0.13.9 --hash=sha256:{'a' * 64}"


def test_each_python_is_installed_once(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    names = [name for name in plan(python, maximal, overview).names if "Install Python" in name]
    assert names == ["Python | Install Python 3.12", "Python | Install Python 3.13"]


def test_where_pythons_and_packages_come_from(maximal: Settings, minimal: Settings, overview: HostOverview) -> None:
    command = pythons(maximal)[0].command
    for part in (
        "UV_PYTHON_INSTALL_DIR=/opt/slipway/python",
        "UV_PYTHON_INSTALL_MIRROR=https://mirror.example.com/python/",
        "UV_PYTHON_DOWNLOADS_JSON_URL=file:///etc/pythons.json",
        "UV_SYSTEM_CERTS=1",
    ):
        assert part in shlex.split(command)
    assert "--index-url" in shlex.split(uv(maximal, overview).command)
    (program,) = pythons(minimal)
    assert "MIRROR" not in program.command and "JSON_URL" not in program.command


# ── app ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("cores", "memory_mb", "apps", "workers"),
    [
        (1, 4000, 1, 2),  # two at least: one that hangs doesn't stop the site
        (2, 4000, 1, 2),
        (4, 4000, 1, 4),
        (8, 4000, 1, 6),  # bounded by memory: half of it, twice while two releases overlap, 150 MB each
        (64, 64000, 1, 64),
        (4, 1200, 1, 2),
        (4, 1199, 1, 1),
        (4, 400, 1, 1),  # never none
        (4, 400, 5, 1),
        (4, 4000, 2, 3),  # the apps share the memory
        (4, 4000, 7, 1),
    ],
)
def test_worker_count(
    minimal: Settings, overview: HostOverview, cores: int, memory_mb: int, apps: int, workers: int
) -> None:
    found = dataclasses.replace(overview, cores=cores, memory_mb=memory_mb)
    assert worker_count(minimal.apps["notes"], found, apps) == workers


def test_workers_as_set(maximal: Settings, overview: HostOverview) -> None:
    poor = dataclasses.replace(overview, cores=1, memory_mb=400)
    assert worker_count(maximal.apps["notes"], poor, 9) == 3


def test_an_apps_place(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    done = plan(app, maximal, overview)("Give each app its users and folders")
    assert list(done.steps("account").items())[:4] == [
        ("_notes", ["/var/cache/slipway/notes/home"]),
        ("notes", ["/var/lib/notes"]),
        ("_wiki-next", ["/var/cache/slipway/wiki-next/home"]),
        ("wiki-next", ["/var/lib/wiki-next"]),
    ], "its builder first"
    assert "--system" in place_module._STEPS and place_module.SHELL == "/usr/sbin/nologin"
    assert "--expiredate 1 " in place_module._STEPS, "sshd asks no shell for a connection that runs nothing"
    folders = done.steps("folder")
    assert len(folders) == 4 * 8
    assert dict(list(folders.items())[:8]) == {
        "/etc/notes": ["root:notes", "750"],
        "/etc/notes/releases": ["root:notes", "750"],
        "/srv/notes": ["root:root", "755"],
        "/srv/notes/releases": ["root:root", "755"],
        "/var/lib/notes": ["notes:notes", "750"],
        "/var/cache/slipway/notes": ["root:root", "755"],
        "/var/cache/slipway/notes/home": ["_notes:_notes", "700"],
        "/var/cache/slipway/notes/uv": ["_notes:_notes", "700"],
    }
    verbs = [words[0] for words in done.commands[0].steps]
    assert verbs == ["account"] * 8 + ["folder"] * 32, "who owns a folder is there before it"


def test_an_app_that_is_new_changes_nothing_of_others(
    plan: Planner, converge: Converge, make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview
) -> None:
    apps = {name: each for name, each in maximal_data["apps"].items() if name != "lab"}
    facts = converge(maximal_data | {"apps": apps})
    facts[Changed] = {"systemd-journald@notes.service": 100.0, "/etc/systemd/journald@notes.conf": 99.0}
    done = plan(app, make_settings(maximal_data), overview, facts=facts)
    place, bounds = done("Give each app its users and folders"), done("Write down what apps may take, and builds reach")
    assert list(place.steps("account")) == ["_lab", "lab"]
    assert {path.replace("lab", "APP") for path in place.steps("folder")} == {
        *("/etc/APP", "/etc/APP/releases", "/srv/APP", "/srv/APP/releases", "/var/lib/APP"),
        *("/var/cache/slipway/APP", "/var/cache/slipway/APP/home", "/var/cache/slipway/APP/uv"),
    }
    assert "/etc/slipway/apps/lab.nft" in bounds.writes and "/etc/slipway/apps/notes.nft" not in bounds.writes
    assert done("Restart the apps' journals with their limits").lines == [
        "systemctl restart systemd-journald@lab.service"
    ], "its configuration is new"
    assert done("Let the firewall know the apps").lines == ["nft -f /etc/slipway/apps/lab.nft"]


@pytest.mark.parametrize(
    ("users", "ports", "loaded"),
    [
        ({"notes", "wiki-next", "lab", "plain"}, {80, 443, 8001, 8002}, []),
        ({"notes", "wiki-next", "plain"}, {80, 443, 8001, 8002}, ["lab"]),
        ({"notes", "wiki-next", "lab", "plain"}, {80, 443, 8001}, ["plain"]),
        (set(), set(), ["notes", "wiki-next", "lab", "plain"]),
    ],
)
def test_the_firewall_gets_to_know_apps_that_it_does_not_know(
    plan: Planner,
    converge: Converge,
    maximal: Settings,
    maximal_data: dict[str, Any],
    overview: HostOverview,
    users: set[str],
    ports: set[int],
    loaded: list[str],
) -> None:
    facts = converge(maximal_data)
    facts[FirewallState] = Firewall(loaded=True, live=True, users=frozenset(users), ports=frozenset(ports))
    done = plan(app, maximal, overview, facts=facts)
    assert done("Let the firewall know the apps").lines == [f"nft -f /etc/slipway/apps/{name}.nft" for name in loaded]


def test_journals_that_run_since_before_their_limit_are_restarted(
    plan: Planner, converge: Converge, maximal: Settings, maximal_data: dict[str, Any], overview: HostOverview
) -> None:
    """By the host, since a run may have died before; one that doesn't run gets its limit when it starts."""
    times: dict[str, float] = {}
    for name, since, changed in (("notes", 100.5, 100.75), ("wiki-next", 100.75, 100.5), ("lab", 7.0, 100.5)):
        times |= {f"systemd-journald@{name}.service": since, f"/etc/systemd/journald@{name}.conf": changed}
    times["/etc/systemd/journald@plain.conf"] = 100.5
    done = plan(app, maximal, overview, facts=converge(maximal_data) | {Changed: times})
    assert done("Restart the apps' journals with their limits").lines == [
        "systemctl restart systemd-journald@notes.service systemd-journald@lab.service"
    ]


# ── nginx ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nginx_is_configured_before_it_starts(plan: Planner, minimal: Settings, overview: HostOverview) -> None:
    names = plan(nginx, minimal, overview).names
    order = ["Make room for challenges, and remove Debian's example site", "Configure the sites", "Enable nginx"]
    assert [name.split(" | ")[1] for name in names if name.split(" | ")[1] in order] == order
    assert plan(nginx_with_certificates, minimal, overview).names == ["Nginx | Configure the sites with TLS"]


DROP_IN = "/etc/systemd/system/nginx.service.d/50-slipway.conf"


def test_nginx_is_shut_off_before_its_package_starts_it(
    plan_deploy: Planner, minimal_data: dict[str, Any], make_settings: MakeSettings, plan: Planner, bare: Facts
) -> None:
    done = plan_deploy(minimal_data)
    assert done.changes[0] == "Nginx | Write the sandbox of nginx"
    assert "ProtectSystem=strict" in done.writes[DROP_IN].text
    minimal_data["nginx"] = {"sandbox": False}
    without = make_settings(minimal_data)
    assert plan(nginx_sandbox, without).changes == []
    there = bare | {Places: {DROP_IN: Place("f", "644", "root", "root")}}
    assert plan(nginx_sandbox, without, facts=there).steps("rm") == {"-f": [DROP_IN]}


def test_nginx_is_planned_for_the_version_that_it_will_have(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts
) -> None:
    def applied(found: HostOverview, version: Versions | None) -> str:
        facts = bare | {NginxVersion: version, Existing: lambda paths: frozenset(paths)}
        (command,) = plan(nginx, minimal, found, facts=facts)("Configure the sites").commands
        made: dict[str, str] = json.loads(command.stdin)
        return made["sites/notes.conf"]

    debian13 = dataclasses.replace(overview, release="13")
    assert "listen 443 ssl http2;" in applied(overview, None)
    assert "http2 on;" in applied(debian13, None)
    assert "http2 on;" in applied(overview, Versions((1, 26, 3), (3, 0))), "the installed one counts"


def test_every_supported_distribution_has_a_known_nginx(
    plan: Planner, minimal: Settings, overview: HostOverview
) -> None:
    for name in SUPPORTED:
        distribution, _, number = name.partition(" ")
        found = dataclasses.replace(overview, distribution=distribution, release=number)
        assert plan(nginx, minimal, found), name


@pytest.mark.parametrize("missing", [{"live": False}, {"managed": False}, {"files": {}}, {"generation": None}])
def test_nginx_is_configured_again_unless_it_serves_just_that(
    plan: Planner,
    converge: Converge,
    minimal: Settings,
    minimal_data: dict[str, Any],
    overview: HostOverview,
    missing: dict[str, Any],
) -> None:
    """A reload that was refused, or a run that died before it, is not forgotten."""
    facts = converge(minimal_data)
    assert plan(nginx_with_certificates, minimal, overview, facts=facts).changes == []
    facts[NginxStatus] = facts[NginxStatus] | missing
    done = plan(nginx_with_certificates, minimal, overview, facts=facts)
    assert done("Configure the sites with TLS").lines == ["/opt/slipway/bin/slipway nginx apply"]


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_certbot_comes_before_the_first_order(plan: Planner, maximal: Settings) -> None:
    names = [name.split(" | ")[1] for name in plan(tls, maximal).names]
    order = [
        "Write what certificates need",
        "Install certbot",
        "Enable the renewal timer",
        "Order the certificate of notes",
        "Let nginx serve the certificates",
    ]
    assert [name for name in names if name in order] == order


def test_certbot_is_installed_by_hash(maximal: Settings, minimal: Settings) -> None:
    (program,) = certbot(maximal)
    argv = shlex.split(program.command)
    assert "--require-hashes" in argv[argv.index("-c") + 1]
    assert argv[-3:] == ["--default-index", "https://index.example.com/simple/;", "}"]
    assert "chmod 600 /var/cache/slipway/python/.lock &&" in program.command
    (program,) = certbot(minimal)
    assert "--default-index" not in program.command


@pytest.mark.parametrize("name", ["wiki-next", "lab", "plain"])
def test_certbot_is_there_for_orders_only(make_settings: MakeSettings, maximal_data: dict[str, Any], name: str) -> None:
    maximal_data["apps"] = {name: maximal_data["apps"][name]}
    assert certbot(make_settings(maximal_data)) == []


def test_an_order_names_all_that_the_certificate_is_for(plan: Planner, maximal: Settings, minimal: Settings) -> None:
    assert plan(tls, maximal)("Order the certificate of notes").commands[0].argv == [
        *(PROGRAM, "acme", "order"),
        *("--server", "https://ca.example.com/dir"),
        *("--name", "notes"),
        *("--domain", "notes.example.com"),
        *("--domain", "www.notes.example.com"),
        *("--ca-file", "/etc/slipway/tls/acme-ca.pem"),
    ]
    assert "--ca-file" not in plan(tls, minimal)("Order the certificate of notes").lines[0]


def test_the_check_before_an_order_can_be_switched_off(
    plan: Planner, make_settings: MakeSettings, minimal_data: dict[str, Any]
) -> None:
    minimal_data["acme"] = {"check": False}
    done = plan(tls, make_settings(minimal_data))("Order the certificate of notes")
    assert done.commands[0].argv[-1] == "--no-check"


def test_no_certificate_stands_in_for_another(plan: Planner, maximal: Settings) -> None:
    names = [name.split(" | ")[1] for name in plan(tls, maximal).names]
    assert [name for name in names if "Order" in name] == ["Order the certificate of notes"]
    signed = plan(tls, maximal)("Sign certificates").commands
    assert [command.argv[7] for command in signed] == ["lab"]


def test_certbot_only_where_an_app_needs_it(
    plan: Planner, make_settings: MakeSettings, minimal_data: dict[str, Any]
) -> None:
    minimal_data["apps"]["notes"]["tls"] = {"mode": "self-signed"}
    names = plan(tls, make_settings(minimal_data)).names
    assert not [name for name in names if "certbot" in name or "renewal" in name or "Order" in name]


def test_the_users_own_certificate(plan: Planner, maximal: Settings, folder: Path) -> None:
    made = plan(tls, maximal)
    key = made.writes["/etc/slipway/tls/wiki-next/privkey.pem"]
    assert (key.user, key.group, key.mode) == ("root", "root", "600")
    assert key.content == (folder / "key.pem").read_bytes()
    chain = made.writes["/etc/slipway/tls/wiki-next/fullchain.pem"]
    assert chain.mode == "644" and chain.content == (folder / "chain.pem").read_bytes()


def test_a_self_signed_certificate_is_for_every_domain(plan: Planner, maximal: Settings) -> None:
    (command,) = plan(tls, maximal)("Sign certificates").commands
    assert command.argv[4:] == [
        "/etc/slipway/tls/lab/fullchain.pem",
        "/etc/slipway/tls/lab/privkey.pem",
        "DNS:lab.example.com,DNS:a.lab.example.com",
        "lab",
        "365",
    ]


# ── release ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def inputs(settings: Settings, overview: HostOverview, commit: str = COMMIT) -> dict[str, Any]:
    """What the release of notes is made from."""
    found: dict[str, Any] = wanted(settings, overview, settings.apps["notes"], commit)["inputs"]
    return found


@pytest.mark.parametrize(
    ("path", "value", "changed"),
    [
        ("<app>.env", {"LOG_LEVEL": "debug", "DEBUG": False}, {"environment"}),
        ("<app>.port", None, {"environment"}),
        ("<app>.workers", 4, {"environment", "service"}),
        ("<app>.timeout", 99, {"service"}),
        ("<app>.graceful_timeout", 99, {"service"}),
        ("<app>.keep_alive", 99, {"service"}),
        ("<app>.max_requests", 99, {"service"}),
        ("<app>.limit_nofile", 9999, {"service"}),
        ("<app>.umask", "0022", {"service"}),
        ("<app>.app", "notes.main:other", {"application"}),
        ("<app>.source.subdir", "", {"folder", "service"}),
        ("<app>.python", "3.11", {"Python"}),
        ("python.version", "3.13", {"Python"}),
        ("<app>.migrate", "auto", {"migration"}),
        ("<app>.migrate", None, {"migration"}),
        ("<app>.static", {"path": "assets"}, {"static files", "shared folders"}),
        ("<app>.static", [STATIC[0] | {"url": "/other/"}, *STATIC[1:]], set()),
        ("<app>.static", [STATIC[0] | {"max_age": 1}, *STATIC[1:]], set()),
        ("<app>.build", ["make"], {"build"}),
        ("<app>.build", [], {"build"}),
        ("<app>.node", False, set()),
        ("<app>.shared", ["media"], {"shared folders"}),
        ("<app>.shared_files", {"db.sqlite3": {"writable": True}}, {"secret files"}),
        ("<app>.shared_files", {"config/local.ini": "local.ini"}, {"shared folders"}),
        ("<app>.domains", ["other.example.com"], set()),
        ("<app>.max_body_size", "1m", set()),
        ("<app>.migrate_timeout", 50, set()),
        ("<app>.readiness_path", "/other", {"readiness path"}),
        ("<app>.readiness_path", None, {"readiness path"}),
        ("<app>.readiness_timeout", 1, set()),
        ("<app>.readiness_interval", 9, set()),
        ("<app>.keep_releases", 9, set()),
        ("<app>.migrate_lock_timeout", 9, set()),
        ("<app>.migrate_statement_timeout", 40, set()),
        ("<app>.migrate_retries", 9, set()),
        ("<app>.watch", 9, set()),
        ("<app>.drain_timeout", 9, set()),
        ("<app>.keep_warm", 9, set()),
        ("<app>.lock_wait", 9, set()),
        ("<app>.hooks", {"timeout": 8}, {"service"}),  # units of jobs wait so long for on_job_failure
        ("<app>.probe", {"short": ["/"]}, set()),
        ("journal_max_size", "3G", set()),
        ("python.index_url", "https://other.example.com/simple/", set()),
    ],
)
def test_a_release_is_due_for_what_it_is_made_from(
    make_settings: MakeSettings,
    maximal_data: dict[str, Any],
    overview: HostOverview,
    path: str,
    value: Any,
    changed: set[str],
    folder: Path,
) -> None:
    before = inputs(make_settings(maximal_data), overview)
    if path == "<app>.source.subdir":
        maximal_data["apps"]["notes"]["source"] |= {"path": "mono/apps/notes", "include": ["page.html"]}
    now = inputs(make_settings(change(maximal_data, path, value)), overview)
    assert {key for key in {**before, **now} if before.get(key) != now.get(key)} == changed


def test_a_release_is_due_whatever_jobs_are_called(
    make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview
) -> None:
    """A job may be called as a unit is."""
    jobs = {name: {"command": "bin/warm", "schedule": "daily"} for name in ("service", "socket")}
    maximal_data["apps"]["notes"]["jobs"] = jobs
    before = inputs(make_settings(maximal_data), overview)
    now = inputs(make_settings(change(maximal_data, "<app>.backlog", 77)), overview)
    assert {key for key in before if before[key] != now[key]} == {"service"}


def test_a_release_is_due_for_another_commit(maximal: Settings, overview: HostOverview) -> None:
    before, now = inputs(maximal, overview), inputs(maximal, overview, "f" * 40)
    assert {key for key in before if before[key] != now[key]} == {"source"}


def test_a_release_is_due_for_another_secret(
    make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview, folder: Path
) -> None:
    before = inputs(make_settings(maximal_data), overview)
    other = folder / "other.env"
    other.write_text((folder / "notes.env").read_text().replace(f"{MARK}Token", f"{MARK}Other"))
    other.chmod(0o600)
    now = inputs(make_settings(change(maximal_data, "<app>.env_file", "other.env")), overview)
    assert {key for key in before if before[key] != now[key]} == {"environment"}


def test_a_secret_file_reaches_the_host_byte_for_byte(
    plan_deploy: Planner,
    make_settings: MakeSettings,
    maximal_data: dict[str, Any],
    folder: Path,
    overview: HostOverview,
) -> None:
    """The host compares it with the digest of what the operator has."""
    content = b"[mail]\r\npassword = x\r\n"
    (folder / "of-windows.ini").write_bytes(content)
    (folder / "of-windows.ini").chmod(0o600)
    maximal_data["apps"]["notes"]["shared_files"]["config/local.ini"] = "of-windows.ini"
    written = plan_deploy(maximal_data).writes["/etc/notes/files/config@local.ini"].content
    told = {"config/local.ini": hashlib.sha256(content).hexdigest()}
    digested = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    assert written == content and inputs(make_settings(maximal_data), overview)["secret files"] == digested


def test_inputs_do_not_depend_on_an_order(
    make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview
) -> None:
    before = inputs(make_settings(maximal_data), overview)
    maximal_data["apps"]["notes"]["env"] = dict(reversed(maximal_data["apps"]["notes"]["env"].items()))
    assert inputs(make_settings(maximal_data), overview) == before


def test_what_is_wanted_holds_no_secret(maximal: Settings, overview: HostOverview) -> None:
    for each in maximal.apps.values():
        text = json.dumps(wanted(maximal, overview, each, COMMIT))
        assert MARK not in text and "PRIVATE KEY" not in text, each.name


def test_what_is_wanted(maximal: Settings, overview: HostOverview) -> None:
    notes = wanted(maximal, overview, maximal.apps["notes"], COMMIT)
    assert notes["source"] == {"kind": "archive", "subdir": "apps/notes", "commit": COMMIT}
    assert notes["migration"] == {
        "command": ["python", "-m", "notes.migrate", "--all"],
        "timeout": 44,
        "lock_timeout": 4,
        "statement_timeout": 43,
        "retries": 6,
    }
    assert notes["hooks"] == {
        "before_migrate": ["bin/before", "--now"],
        "after_migrate": ["python", "-m", "notes.after"],
        "after_switch": ["bin/warm", "two words"],
        "on_failure": ["bin/page"],
        "on_job_failure": ["bin/page", "--job"],
        "timeout": 9,
    }
    assert notes["processes"] == {
        "beat": {"command": ["celery", "-A", "notes", "beat"], "alive": 3, "alone": True},
        "worker": {"command": ["bin/warm", '50% "of $HOME"'], "alive": 5, "alone": False},
    }
    assert {name: job["calendar"] for name, job in notes["jobs"].items()} == {
        "cleanup": ["Mon,Tue,Wed,Thu,Fri *-*-* 03:30:00"],
        "report": ["*-*-01 04:00 UTC"],
    }
    assert notes["readiness"] == {
        "path": "/ready",
        "strict": True,
        "interval": 2,
        "timeout": 45,
        "host": "notes.example.com",
        "scheme": "https",
    }
    assert (notes["python"], notes["keep"], notes["static"]) == ("3.12", 3, ["static", "dist/app.v1"])
    assert notes["shared"] == {
        "folders": ["media", "var/data"],
        "files": ["db.sqlite3"],
        "served": ["media"],
        "secrets": ["config/local.ini"],
    }
    given = ["NODE_ENV=production", "npm", "run", "build"]
    assert notes["build"]["commands"] == [["npm", "ci"], given, ["sh", "-c", "rm -rf node_modules"]]
    assert notes["build"]["env"] == {"LOG_LEVEL": "info"}
    assert (notes["watch"], notes["drain_timeout"], notes["graceful_timeout"], notes["keep_warm"]) == (7, 20, 42, 90)
    assert notes["uv_env"]["UV_PYTHON_DOWNLOADS"] == "never", "a build must not fetch another Python"
    wiki = wanted(maximal, overview, maximal.apps["wiki-next"], "")
    assert wiki["source"]["kind"] == "git" and wiki["source"]["url"] == "git@git.example.com:team/wiki.git"
    assert wiki["migration"]["command"] is None
    lab = wanted(maximal, overview, maximal.apps["lab"], "")
    assert lab["migration"]["command"] == "auto"
    assert lab["migration"]["statement_timeout"] == lab["migration"]["timeout"], "where none is set"
    assert lab["hooks"] == dict.fromkeys(HOOKS) | {"timeout": 60}
    plain = wanted(maximal, overview, maximal.apps["plain"], "")["readiness"]
    assert plain == {
        "path": "/",
        "strict": False,
        "interval": 1,
        "timeout": 60,
        "host": "plain.example.com",
        "scheme": "http",
    }


def test_the_environment(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    made = plan(release, maximal, overview, RunOptions())
    write = made.writes["/etc/notes/env"]
    assert (write.user, write.group, write.mode) == ("root", "notes", "640")
    quoted = (line.split("=", 1) for line in write.text.splitlines())
    # As systemd and a POSIX shell read it.
    variables = {name: re.sub(r"\\(.)", r"\1", value[1:-1]) for name, value in quoted}
    assert variables == {
        "DATABASE_URL": f"postgresql+asyncpg://notes:{MARK}Db@db.example.com/notes?ssl=require",
        "DATABASE_URL_SYNC": f"postgresql://notes:{MARK}Db@db.example.com/notes?sslmode=require",
        "DEBUG": "false",
        "LOG_LEVEL": "info",
        "PORT": "8001",
        "PYTHONUNBUFFERED": "1",
        "TOKEN": f'{MARK}Token "$HOME" %41 #',
        "UV_INDEX_INTERNAL_PASSWORD": f"{MARK}Index",
        "WEB_CONCURRENCY": "3",
    }
    assert made.writes["/etc/lab/env"].text == 'PYTHONUNBUFFERED="1"\nWEB_CONCURRENCY="1"\n'


def test_the_environments_digest_is_that_of_the_file(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    write = plan(release, maximal, overview, RunOptions()).writes["/etc/notes/env"]
    assert inputs(maximal, overview)["environment"] == digest(write.content)
    assert write.text == render_env(app_role.environment(maximal.apps["notes"], 3))


def test_gits_ssh(maximal: Settings, make_settings: MakeSettings, maximal_data: dict[str, Any]) -> None:
    line = shlex.split(git_ssh(maximal.apps["wiki-next"]))
    assert line[0] == "ssh" and "BatchMode=yes" in line and "StrictHostKeyChecking=yes" in line
    assert line[line.index("-i") + 1] == "/etc/wiki-next/deploy_key" and "IdentitiesOnly=yes" in line
    assert "UserKnownHostsFile=/etc/wiki-next/known_hosts" in line
    assert git_ssh(maximal.apps["notes"]) == ""
    del maximal_data["apps"]["wiki-next"]["source"]["known_hosts"]
    trusting = git_ssh(make_settings(maximal_data).apps["wiki-next"])
    assert "StrictHostKeyChecking=accept-new" in trusting and "StrictHostKeyChecking=yes" not in trusting


def lookup(done: Plan, name: str) -> Operation:
    """The operation that releases an app."""
    return done(f"Release {name}")


def asked(done: Plan, name: str) -> dict[str, Any]:
    """The request that an app is released by."""
    (command,) = lookup(done, name).commands
    assert command.argv == [*RELEASING, name]
    found: dict[str, Any] = json.loads(command.stdin)
    return found


def test_what_all_servers_share_comes_before_a_release(
    plan: Planner, maximal: Settings, overview: HostOverview
) -> None:
    done = plan(release, maximal, overview, RunOptions())
    assert done.names[0] == "Release | Write what servers share, and the apps' environments"
    written = done.writes["/opt/slipway/gunicorn.conf.py"]
    assert (written.user, written.mode) == ("root", "644")


def test_a_release_of_a_folder(
    plan: Planner, maximal: Settings, overview: HostOverview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("platform.node", lambda: "desk")
    done = plan(release, maximal, overview, RunOptions(contract=True))
    request = asked(done, "notes")
    archive = base64.b64decode(request.pop("archive"), validate=True)
    assert archive[:2] == b"\x1f\x8b"
    made = request.pop("wanted")
    assert made == json.loads(json.dumps(wanted(maximal, overview, maximal.apps["notes"], digest(archive))))
    assert made["source"]["commit"] == made["inputs"]["source"] == digest(archive)
    assert request == {
        "protocol": 1,
        "build": {"UV_INDEX_INTERNAL_PASSWORD": f"{MARK}Index"},
        "by": "ann@desk",
        "wait": 8,
        "contract": True,
        "again": False,
        "fresh": False,
        "stop_first": False,
    }


def test_a_request_is_on_standard_input_alone(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    (command,) = lookup(plan(release, maximal, overview, RunOptions()), "notes").commands
    assert MARK in command.stdin
    for text in (command.line, command.shown):
        assert text == "/opt/slipway/bin/slipway release --request notes"


def test_a_release_of_a_repository(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    done = plan(release, maximal, overview, RunOptions())
    key = done.writes["/etc/wiki-next/deploy_key"]
    assert (key.user, key.group, key.mode) == ("root", "root", "600")
    request = asked(done, "wiki-next")
    assert "archive" not in request
    assert request["wanted"]["source"]["commit"] == request["wanted"]["inputs"]["source"] == COMMIT


def served(done: Plan, **apps: dict[str, Any]) -> Callable[[str], dict[str, Any]]:
    """`ReleaseStatus` of a host where `done` was carried out, but for what is told of some apps."""
    made = wanted_by(done)
    return lambda app: status_of(made[app]) | apps.get(app, {})


Again = Callable[..., Plan]


@pytest.fixture
def again(
    plan: Planner, maximal: Settings, overview: HostOverview, bare: Facts, caplog: pytest.LogCaptureFixture
) -> Again:
    """`again(facts=…, **options)(notes={…})`: another release of a host whose apps all serve, but for what is told."""
    caplog.set_level("INFO", "pyinfra")
    first = plan(release, maximal, overview, RunOptions())
    written = {path: write.place for path, write in first.writes.items()}

    def make(facts: Facts | None = None, options: RunOptions | None = None, **apps: dict[str, Any]) -> Plan:
        known = bare | {Places: written, ReleaseStatus: served(first, **apps)} | (facts or {})
        caplog.clear()
        return plan(release, maximal, overview, options or RunOptions(), facts=known)

    return make


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What a run said, without colours and the host's name."""
    lines = [re.sub(r"\x1b\[\d*m", "", record.getMessage()) for record in caplog.records]
    return [line.strip().removeprefix("[@fake]").strip() for line in lines]


def test_a_release_that_serves_is_not_made_again(again: Again) -> None:
    (kept,) = (each for each in again() if each.name == SERVING)
    assert kept.commands == []
    apps = ("notes", "wiki-next", "lab", "plain")
    assert kept.reasons == [f"{name}: r1 serves and was made from exactly this" for name in apps]


@pytest.mark.parametrize(
    ("named", "said"),
    [
        (None, "it gets Python 3.13"),
        ("3.13.2", "it gets Python 3.13"),
        (
            "3.12",
            (
                "it gets Python 3.13, as python.version of the host says; .python-version names 3.12: for that, "
                'set python to "3.12"'
            ),
        ),
    ],
)
def test_the_python_of_a_release_is_told(
    plan: Planner, minimal: Settings, overview: HostOverview, caplog: Any, named: str | None, said: str
) -> None:
    folder = minimal.apps["notes"].source_dir
    assert folder is not None
    if named:
        (folder / ".python-version").write_text(f"{named}\n")
    caplog.set_level("INFO", "pyinfra")
    plan(release, minimal, overview, RunOptions())
    assert f"notes: {said}" in logged(caplog)


def test_the_first_release(plan: Planner, minimal: Settings, overview: HostOverview, caplog: Any) -> None:
    caplog.set_level("INFO", "pyinfra")
    plan(lambda: (app(minimal, overview), release(minimal, overview, RunOptions())))
    assert "will make release of notes: its first release" in logged(caplog)
    caplog.clear()
    plan(release, minimal, overview, RunOptions())
    said = "will make release of notes: what serves can't be told yet: a release if it isn't just this"
    assert said in logged(caplog), "its folders are there, so an earlier one may serve"


def test_what_stops_serving_after_a_run_has_looked_is_healed_by_it(
    plan: Planner, maximal: Settings, overview: HostOverview, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_operations, "settled", lambda **_: True)
    done = plan(release, maximal, overview, RunOptions())("Keep what serves")
    assert [command.argv for command in done.commands] == [[*RELEASING, name] for name in maximal.apps]


def test_a_certificate_that_goes_after_a_run_has_looked_is_ordered_by_it(
    plan: Planner, minimal: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True, False, False, False])
    monkeypatch.setattr(tls_role, "ordered", lambda *_: next(looks))
    done = plan(tls, minimal)("Keep the certificates that are there")
    assert [command.argv[:3] for command in done.commands] == [[PROGRAM, "acme", "order"]]


def test_why_a_release_is_due_is_told(again: Again, caplog: pytest.LogCaptureFixture) -> None:
    done = again(notes={"inputs": {}})
    assert asked(done, "notes") and done.changes == [ENVIRONMENT, RELEASE]
    line = next(line for line in logged(caplog) if "release of notes" in line)
    assert line.startswith("will make release of notes: source, folder, Python, environment, ")
    assert line.endswith(" changed since r1; no request is lost")


def test_what_is_stopped_first_loses_requests(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyinfra")
    facts = bare | {ReleaseStatus: {"release": "r2", "faults": []}, RollbackTarget: {"release": "r1", "error": None}}
    options = RunOptions(stop_first=True)
    (command,) = plan(rollback, minimal, options, facts=facts)("Roll back notes").commands
    assert json.loads(command.stdin)["stop_first"] is True
    lossy = "what serves is stopped first, and requests are lost"
    assert f"will make rollback of notes: r1 serves again; {lossy}" in logged(caplog)
    facts = bare | {ReleaseStatus: {"release": "r2", "inputs": {}, "faults": []}}
    assert asked(plan(release, minimal, overview, options, facts=facts), "notes")["stop_first"] is True
    line = next(line for line in logged(caplog) if "make release of notes" in line)
    assert line.endswith(f" changed since r2; {lossy}")


def test_a_release_that_does_not_serve_fully_is_healed(again: Again, caplog: pytest.LogCaptureFixture) -> None:
    done = again(notes={"faults": ["notes@r1.service isn't running", "nginx's upstream names r0"]})
    assert asked(done, "notes") and done.changes == [ENVIRONMENT, RELEASE]
    assert "will make release of notes: notes@r1.service isn't running; nginx's upstream names r0" in logged(caplog)


def test_settings_that_need_no_release_are_sent_all_the_same(again: Again, caplog: pytest.LogCaptureFixture) -> None:
    """A rollback, or a run on the host, goes by them."""
    done = lookup(again(notes={"wanted": {}}), "notes")
    (written,) = done.writes.values()
    assert len(done.commands) == 1 and written.path == "/etc/notes/release.json"
    assert (written.user, written.group, written.mode) == ("root", "root", "600")
    assert MARK not in written.text and json.loads(written.content)["keep"] == 3
    assert "will modify /etc/notes/release.json: settings change that need no release" in logged(caplog)


def back_from(wanted_now: dict[str, Any], **other: Any) -> dict[str, Any]:
    """What is told of an app that the operator went back with."""
    bad = {"id": "r2", "by": "bob@desk", "since": "2026-01-02T03:04:05Z", "why": "went back to r1"}
    left = [bad | {"inputs": {"source": "older"}}, bad | {"inputs": wanted_now["inputs"]}]
    return {"inputs": {"source": "r1"}, "rolled_back": left} | other


@pytest.fixture
def left(plan: Planner, maximal: Settings, overview: HostOverview) -> dict[str, Any]:
    """notes, whose release from just this the operator rolled back from."""
    return back_from(wanted_by(plan(release, maximal, overview, RunOptions()))["notes"])


BACK = "bob@desk rolled back from r2, made from exactly this, at 2026-01-02T03:04:05Z"


def test_what_was_gone_back_from_is_not_released_again(
    again: Again, left: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    done = lookup(again(notes=left), "notes")
    assert (done.commands, done.reasons) == ([], [f"notes: {BACK}"])
    (warning,) = {record.getMessage() for record in caplog.records if record.levelname == "WARNING"}
    assert warning.endswith(f"notes: {BACK}; r1 serves. For a release, change the code, or use --again.")


@pytest.mark.parametrize("held", [True, False])
def test_a_run_ends_with_what_is_held(
    plan: Planner, maximal: Settings, overview: HostOverview, bare: Facts, caplog: pytest.LogCaptureFixture, held: bool
) -> None:
    caplog.set_level("INFO", "pyinfra")
    first = plan(release, maximal, overview, RunOptions())
    apps = {"notes": back_from(wanted_by(first)["notes"])} if held else {}
    there = {path: write.place for path, write in first.writes.items()}
    there |= {"/opt/slipway/servers": Place("d", "755", "root", "root")}
    there |= {"/etc/notes/files": Place("d", "700", "root", "root")}
    known = bare | {Places: there, ReleaseStatus: served(first, **apps)}
    plan(lambda: verdict(release(maximal, overview, RunOptions())), facts=known)
    told = "notes not released (bob@desk rolled back from it), nothing else to change"
    assert logged(caplog)[-1] == (told if held else "nothing to change")


def test_what_is_held_changes_nothing(again: Again, left: dict[str, Any], plan: Planner, maximal: Settings) -> None:
    """Another release serves that was asked for since: what that was made from stays in release.json."""
    wanted = left["rolled_back"][-1]["inputs"]
    known = lookup(again(notes={"wanted": {}}), "notes").writes["/etc/notes/release.json"].content
    newer = json.loads(known) | {"inputs": wanted | {"source": "newer"}, "units": {"service": "# newer\n"}}
    done = lookup(again(notes=left | {"wanted": newer}), "notes")
    assert (done.commands, done.writes, done.reasons) == ([], {}, [f"notes: {BACK}"])
    done = lookup(again(notes=left | {"wanted": newer | {"keep": 7}}), "notes")
    assert json.loads(done.writes["/etc/notes/release.json"].content) == newer, "settings that need no release count"


def test_what_was_gone_back_from_is_released_when_told(again: Again, left: dict[str, Any]) -> None:
    done = again(options=RunOptions(again=True), notes=left)
    assert asked(done, "notes")["again"] is True


def test_new_code_is_released_after_a_rollback(again: Again, left: dict[str, Any]) -> None:
    for each in left["rolled_back"]:
        each["inputs"] = {"source": "older"}
    assert asked(again(notes=left), "notes")["again"] is False


def test_where_no_release_serves_nothing_is_held(
    again: Again, left: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody deleted the releases and `current` after a rollback: a release is due, and none is called None."""
    done = again(notes=left | {"release": None, "faults": ["no release serves yet"]})
    assert asked(done, "notes")["again"] is False
    said = "\n".join(logged(caplog))
    assert "will make release of notes: " in said and not re.search(r"\bNone\b", said) and "rolled back" not in said


def test_the_host_heals_what_was_gone_back_to(
    again: Again, left: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It holds what was gone back from by itself."""
    done = again(notes=left | {"faults": ["notes@r1.service isn't running"]})
    assert asked(done, "notes")["again"] is False
    said = logged(caplog)
    assert f"notes: {BACK}; r1 serves. For a release, change the code, or use --again." in said
    assert "will repair release r1: notes@r1.service isn't running; no new one is made" in said
    assert not [line for line in said if "make release" in line]


def test_a_branch_that_moved_is_released(again: Again) -> None:
    done = again({GitCommits: {0: "f" * 40, 1: "f" * 40}})
    assert [name for name in done.changes if name.startswith("Release | Release ")] == [
        "Release | Release wiki-next",
        "Release | Release lab",
    ]


def test_a_commit_is_not_looked_up(
    plan: Planner, make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview, bare: Facts
) -> None:
    maximal_data["apps"] = {"lab": maximal_data["apps"]["lab"]}
    maximal_data["apps"]["lab"]["source"]["ref"] = COMMIT
    facts = {fact: value for fact, value in bare.items() if fact is not GitCommits}
    done = plan(release, make_settings(maximal_data), overview, RunOptions(), facts=facts)
    request = asked(done, "lab")
    assert (request["wanted"]["source"]["commit"], request["ref"]) == (COMMIT, COMMIT)


def test_another_name_of_the_same_commit_changes_nothing(
    plan: Planner, make_settings: MakeSettings, maximal_data: dict[str, Any], overview: HostOverview, bare: Facts
) -> None:
    """The host is told which one led to the commit; what it keeps of a release doesn't have it."""
    requests = []
    for ref in ("main", "v1"):
        maximal_data["apps"]["lab"]["source"]["ref"] = ref
        requests.append(asked(plan(release, make_settings(maximal_data), overview, RunOptions(), facts=bare), "lab"))
    assert [request["ref"] for request in requests] == ["main", "v1"]
    assert requests[0]["wanted"] == requests[1]["wanted"]
    assert requests[0]["wanted"]["source"].keys() == {"kind", "url", "ssh", "subdir", "commit"}


def test_a_ref_that_is_not_there_fails_its_app_alone(
    plan: Planner, maximal: Settings, overview: HostOverview, bare: Facts
) -> None:
    def commits(sources: tuple[Git, ...]) -> dict[int, str]:
        known = [COMMIT if "lab" in url else "error: there is no such branch or tag" for url, _, _ in sources]
        return dict(enumerate(known))

    facts = bare | {GitCommits: commits}
    done = plan(release, maximal, overview, RunOptions(), facts=facts)
    (command,) = done("Release wiki-next").commands
    found = "git@git.example.com:team/wiki.git can't be looked up from the host: there is no such branch or tag"
    assert command.argv[2:] == ['echo "$1" >&2; exit 1', "slipway", f"wiki-next: main of {found}"]
    assert asked(done, "lab")


def test_one_app_is_released(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    judged: list[str] = []
    done = plan(lambda: judged.extend(release(maximal, overview, RunOptions(app="lab"))))
    assert [name.split(" | ")[1] for name in done.changes] == [
        "Write what servers share, and the apps' environments",
        "Release lab",
    ]
    assert judged == ["the release of lab"]


# ── a release that is shown before it is made ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("consent", [False, True])
def test_a_dry_run_shows_commits_and_migrations(
    again: Again, caplog: pytest.LogCaptureFixture, *, consent: bool
) -> None:
    given: list[tuple[str, list[str]]] = []
    steps = {"contract": ["drops the table old"], "sql": "DROP TABLE old;\n-- x"}
    revision = {"revision": "r3", "doc": "drops old"} | steps
    other: dict[str, Any] = {"revision": "r4", "doc": "by hand", "contract": [], "sql": None}

    def plan_of(app: str, _stdin: list[str]) -> dict[str, Any]:
        given.append((app, _stdin))
        return {"commits": ["abc1234 Fix it", ""], "pending": [revision, other], "error": None}

    again({ReleasePlan: plan_of}, RunOptions(contract=consent), **{"wiki-next": {"inputs": {}}})
    app_name, sent = given[0]
    assert app_name == "wiki-next" and json.loads("".join(sent))["wanted"]["source"]["commit"] == COMMIT
    assert str(sent) == "…", "pyinfra logs it"
    said = logged(caplog)
    at = said.index("will release commit abc1234 of wiki-next: Fix it")
    assert said[at : at + 6] == [
        "will release commit abc1234 of wiki-next: Fix it",
        "will run migration r3 of wiki-next: drops old: it drops the table old"
        if consent
        else "will fail migration r3 of wiki-next: drops old: it drops the table old, which needs --contract",
        "DROP TABLE old;",
        "-- x",
        "will run migration r4 of wiki-next: by hand",
        "(its SQL can't be written without the database)",
    ]


def test_a_plan_gets_placeholders_for_secrets(
    again: Again, maximal: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """And says plainly where it could not render the SQL."""
    given: list[dict[str, Any]] = []

    def plan_of(app: str, _stdin: list[str]) -> dict[str, Any]:
        given.append(json.loads("".join(_stdin)))
        return {"commits": [], "pending": [], "error": None, "sql_error": "its env.py\x1b[2J can't be run"}

    again({ReleasePlan: plan_of}, notes={"inputs": {}})
    (sent,) = given
    stand_ins = sent["placeholders"]
    assert MARK not in json.dumps(stand_ins) and MARK not in json.dumps(sent["wanted"])
    assert stand_ins["DATABASE_URL"] == "postgresql+asyncpg://localhost/placeholder"
    assert stand_ins["UV_INDEX_INTERNAL_PASSWORD"] == "placeholder"
    assert stand_ins["LOG_LEVEL"] == maximal.apps["notes"].env["LOG_LEVEL"]
    assert {"DATABASE_URL", "UV_INDEX_INTERNAL_PASSWORD"} <= set(sent["wanted"]["secrets"])
    assert "LOG_LEVEL" not in sent["wanted"]["secrets"]
    said = "notes: the SQL of its migrations can't be written here: its env.py\\x1b[2J can't be run"
    assert said in logged(caplog)
    said = "notes: what `python -m notes.migrate --all` would migrate is known only once it runs"
    assert said in logged(caplog)


def test_a_secret_in_a_local_folder_is_named(
    plan: Planner,
    minimal: Settings,
    overview: HostOverview,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level("INFO", "pyinfra")
    folder = minimal.apps["notes"].source_dir
    assert folder is not None
    before = asked(plan(release, minimal, overview, RunOptions()), "notes")["archive"]
    secret, out = folder / ".env.production", folder / "out"
    try:  # the folder is that of other tests, too
        secret.write_text("TOKEN=x")
        assert asked(plan(release, minimal, overview, RunOptions()), "notes")["archive"] == before
        assert any(line.startswith(f"notes: {secret} looks like a secret and") for line in logged(caplog))
        caplog.clear()
        monkeypatch.setattr(type(minimal.apps["notes"]), "env_local", secret)
        assert asked(plan(release, minimal, overview, RunOptions()), "notes")["archive"] == before
        assert not any(str(secret) in line for line in logged(caplog)), "the run would have it named in env_file"
        out.symlink_to("/etc/passwd")
        with pytest.raises(SourceError, match="out is a link to /etc/passwd, which isn't inside of the source"):
            plan(release, minimal, overview, RunOptions())
    finally:
        for each in (secret, out):
            each.unlink(missing_ok=True)


DROPS = {"revision": "r3", "doc": "drops old", "contract": ["drops the table old"], "sql": "DROP TABLE old;"}


@pytest.mark.parametrize(
    ("told", "consent", "why"),
    [
        (
            {"pending": [DROPS]},
            False,
            "fail release of notes: the release that serves may not survive r3, which needs --contract",
        ),
        ({"pending": [DROPS]}, True, "make release of notes: source"),
        ({"pending": [DROPS | {"contract": []}]}, False, "make release of notes: source"),
        ({"unknown": ["r9"]}, True, "fail release of notes: the database is at r9, which it doesn't have"),
        (
            {"forked": ["r1", "r2"]},
            True,
            "fail release of notes: its migrations have 2 heads (r1, r2): `alembic merge heads`",
        ),
        ({"heads": ["r1"], "unknown": [], "pending": []}, False, "make release of notes: source"),
    ],
)
def test_a_dry_run_tells_what_the_host_would_refuse(
    again: Again, caplog: pytest.LogCaptureFixture, told: dict[str, Any], why: str, *, consent: bool
) -> None:
    again({ReleasePlan: told}, RunOptions(contract=consent), notes={"inputs": {}})
    (line,) = (line for line in logged(caplog) if "release of notes" in line and line.startswith("will"))
    assert line.startswith(f"will {why}")


def test_a_dry_run_tells_what_it_cannot_show(again: Again, caplog: pytest.LogCaptureFixture) -> None:
    again({ReleasePlan: {"error": "no module"}}, notes={"inputs": {}})
    assert "notes: its migrations can't be looked at before it is built: no module" in logged(caplog)


@pytest.mark.parametrize(
    "told", [{}, {"release": None, "inputs": {}, "faults": ["no release serves yet"]}, {"faults": ["x"]}]
)
def test_nothing_is_planned_where_no_code_changes(again: Again, told: dict[str, Any]) -> None:
    def asked_in_vain(**_: Any) -> dict[str, Any]:
        raise AssertionError("there is nothing to plan")

    again({ReleasePlan: asked_in_vain}, notes=told)


# ── rollback and history ─────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rollback(
    plan: Planner, maximal: Settings, overview: HostOverview, bare: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("platform.node", lambda: "desk")
    judged: list[str] = []
    facts = bare | {ReleaseStatus: {"release": "r1"}}
    options = RunOptions(app="notes", to="abcdef0", schema="downgrade")
    done = plan(lambda: judged.extend(rollback(maximal, options)), facts=facts)
    assert done.names[0] == "Rollback | Write what servers share"
    (command,) = done("Roll back notes").commands
    assert command.line == command.shown == "/opt/slipway/bin/slipway rollback --request notes"
    made = {"protocol": 1, "by": "ann@desk", "wait": 8, "to": "abcdef0", "schema": "downgrade", "stop_first": False}
    assert json.loads(command.stdin) == made
    assert judged == ["the rollback of notes"] and len(done) == 2


def back_to(plan: Planner, minimal: Settings, bare: Facts, target: dict[str, Any], **status: Any) -> Operation:
    """A rollback of a host that answers so."""
    facts = bare | {ReleaseStatus: {"release": "r2", "faults": []} | status, RollbackTarget: target}
    return plan(rollback, minimal, RunOptions(to="r"), facts=facts)("Roll back notes")


def test_a_rollback_to_what_serves_changes_nothing(
    plan: Planner, minimal: Settings, bare: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyinfra")
    done = back_to(plan, minimal, bare, {"release": "r2", "error": None})
    assert (done.commands, done.reasons) == ([], ["notes: r2 serves already"])
    assert "notes: r2 serves already" in logged(caplog)
    assert not [line for line in logged(caplog) if "rollback" in line]


def test_a_rollback_to_what_should_serve_repairs_it(
    plan: Planner, minimal: Settings, bare: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyinfra")
    done = back_to(plan, minimal, bare, {"release": "r2", "error": None}, faults=["notes@r2.service isn't running"])
    assert len(done.commands) == 1
    assert "will repair release r2: notes@r2.service isn't running" in logged(caplog)


def test_a_rollback_names_what_will_serve(
    plan: Planner, minimal: Settings, bare: Facts, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pyinfra")
    assert len(back_to(plan, minimal, bare, {"release": "r1", "error": None}).commands) == 1
    assert "will make rollback of notes: r1 serves again; no request is lost" in logged(caplog)


@pytest.mark.parametrize(
    ("status", "decided"), [({}, True), ({"faults": ["x"]}, False), ({"run": {"verb": "deploy"}}, False)]
)
def test_a_rollback_to_what_is_not_there_is_refused(
    plan: Planner, minimal: Settings, bare: Facts, status: dict[str, Any], *, decided: bool
) -> None:
    """By the host itself, where what is there may be another thing by the time it looks."""
    error = "r is the beginning of r1, r2: name one of them."
    (command,) = back_to(plan, minimal, bare, {"release": None, "error": error}, **status).commands
    if decided:
        assert command.argv[2:] == ['echo "$1" >&2; exit 1', "slipway", f"notes: {error}"]
    else:
        assert command.line == "/opt/slipway/bin/slipway rollback --request notes"


def test_a_rollback_of_every_app(plan: Planner, maximal: Settings, bare: Facts) -> None:
    done = plan(rollback, maximal, RunOptions(), facts=bare | {ReleaseStatus: {"release": "r1"}})
    assert [name for name in done.names if "Roll back" in name] == [
        f"Rollback | Roll back {name}" for name in maximal.apps
    ]
    assert json.loads(done("Roll back lab").commands[0].stdin)["to"] is None


def test_nothing_to_go_back_from(plan: Planner, minimal: Settings, bare: Facts) -> None:
    for status in ({}, {"release": None}):
        done = plan(rollback, minimal, RunOptions(), facts=bare | {ReleaseStatus: status})
        (command,) = done("Roll back notes").commands
        assert command.argv[2] == 'echo "$1" >&2; exit 1'
        assert command.argv[4] == "notes: no release serves on this host, so there is nothing to roll back."


def test_the_history(plan: Planner, maximal: Settings, bare: Facts, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": "r1", "now": "serves"}]
    table = {False: ["RELEASE  NOW", "r1       serves"], True: [json.dumps(rows)]}
    facts = bare | {ReleaseHistory: lambda app, as_json: table[as_json]}
    plan(history, maximal, RunOptions(app="lab"), facts=facts)
    assert capsys.readouterr().out == "lab on @fake\nRELEASE  NOW\nr1       serves\n\n"
    plan(history, maximal, RunOptions(), facts=facts)
    assert capsys.readouterr().out.count(" on @fake\n") == 4
    plan(history, maximal, RunOptions(app="lab", json=True), facts=facts)
    assert json.loads(capsys.readouterr().out) == {"host": "@fake", "app": "lab", "releases": rows}
    plan(history, maximal, RunOptions(app="lab", json=True), facts=bare | {ReleaseHistory: []})
    assert json.loads(capsys.readouterr().out)["releases"] == [], "no release was ever made there"


# ── tasks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_task_releases_and_does_nothing_else(
    plan_deploy: Planner, converge: Converge, maximal_data: dict[str, Any]
) -> None:
    facts = converge(maximal_data)
    done = plan_deploy(maximal_data, entry="tasks/release.py", facts=facts)
    assert {name.split(" | ")[0] for name in done.names} == {"Program", "Release", "Verdict"} and done.changes == []
    facts[GitCommits] = {0: "f" * 40, 1: "f" * 40}
    done = plan_deploy(maximal_data, "--data", "app=lab", "--data", "again=true", entry="tasks/release.py", facts=facts)
    assert done.changes == ["Release | Release lab"]
    assert asked(done, "lab")["again"] is True and asked(done, "lab")["contract"] is False


def test_a_task_goes_back(plan_deploy: Planner, converge: Converge, maximal_data: dict[str, Any]) -> None:
    options = ("--data", "app=notes", "--data", "to=0123456", "--data", "schema=code-only")
    done = plan_deploy(maximal_data, *options, entry="tasks/rollback.py", facts=converge(maximal_data))
    assert done.changes == ["Rollback | Roll back notes"] and done.names[-1].startswith("Verdict | ")
    request = json.loads(done("Roll back notes").commands[0].stdin)
    assert (request["to"], request["schema"]) == ("0123456", "code-only")


def test_a_rollback_that_fails_fails_the_run(
    plan_deploy: Planner, converge: Converge, maximal_data: dict[str, Any]
) -> None:
    done = plan_deploy(
        maximal_data,
        entry="tasks/rollback.py",
        facts=converge(maximal_data),
        failing=("Rollback | Roll back lab",),
    )
    (command,) = done[-1].commands
    assert command.argv[4].startswith("@fake: the rollback of lab failed;")


def test_a_task_shows_the_releases(
    plan_deploy: Planner, converge: Converge, maximal_data: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    facts = converge(maximal_data) | {ReleaseHistory: ["RELEASE"]}
    assert plan_deploy(maximal_data, "--data", "app=lab", entry="tasks/releases.py", facts=facts) == []
    assert capsys.readouterr().out == "lab on @fake\nRELEASE\n\n"


@pytest.mark.parametrize("entry", ["release", "releases", "rollback"])
def test_a_task_needs_a_host_that_is_ready(
    plan_deploy: Planner, converge: Converge, maximal_data: dict[str, Any], bare: Facts, entry: str
) -> None:
    with pytest.raises(PreflightError) as told:
        plan_deploy(maximal_data, entry=f"tasks/{entry}.py", facts=bare)
    assert str(told.value) == (
        "@fake isn't ready for notes and wiki-next and lab and plain: run `slipway apply` first; nothing was touched."
    )


def test_a_task_for_one_app_needs_that_one_alone(
    plan: Planner, maximal: Settings, bare: Facts, overview: HostOverview
) -> None:
    overview = dataclasses.replace(bare[Overview], users={"root": "/root", "lab": "/var/lib/lab", "_lab": "/x"})
    facts = bare | {Overview: overview}
    plan(provisioned, maximal, RunOptions(app="lab"), facts[Overview], facts=facts)
    message = r"^@fake isn't ready for notes: run `slipway apply` first; nothing was touched\.$"
    with pytest.raises(PreflightError, match=message):
        plan(provisioned, maximal, RunOptions(app="notes"), facts[Overview], facts=facts)


# ── traffic while it happens ─────────────────────────────────────────────────────────────────────────────────────────


def probers(done: Plan) -> list[Any]:
    """The traffic of a plan's releases and rollbacks, in their order."""
    started = [command for operation in done for command in operation.commands if "--request" in command.argv]
    assert started
    return [command.prober for command in started]


def test_no_traffic_unless_asked_for(again: Again) -> None:
    assert probers(again(notes={"inputs": {}})) == [None]


def test_traffic_during_a_release(again: Again) -> None:
    (prober,) = probers(again(options=RunOptions(prove=True), notes={"inputs": {}}))
    assert prober._site.url == "https://notes.example.com"
    assert prober._load.short == ("/ready",)


def test_no_traffic_to_what_does_not_serve_yet(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    assert probers(plan(release, maximal, overview, RunOptions(prove=True))) == [None] * 4


def test_traffic_during_a_rollback(plan: Planner, maximal: Settings, bare: Facts) -> None:
    options = RunOptions(prove=True, app="plain")
    done = plan(rollback, maximal, options, facts=bare | {ReleaseStatus: {"release": "r1"}})
    assert [prober._site.url for prober in probers(done)] == ["http://plain.example.com"]


# ── verdict ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("failing", "told"),
    [
        (("Release | Release lab",), "the release of lab"),
        (
            ("TLS | Order the certificate of notes", "Release | Release notes"),
            "the certificate of notes and the release of notes",
        ),
    ],
)
def test_what_failed_for_one_app_fails_the_run(
    plan_deploy: Planner, maximal_data: dict[str, Any], failing: tuple[str, ...], told: str
) -> None:
    done = plan_deploy(maximal_data, failing=failing)
    (command,) = done[-1].commands
    assert command.argv[2] == 'echo "$1" >&2; exit 1'
    message = f"@fake: {told} failed; the reason stands above, at its operation. Everything else succeeded."
    assert command.argv[4] == message


def test_a_run_of_one_step_that_failed_has_no_other(plan: Planner, minimal: Settings, overview: HostOverview) -> None:
    done = plan(lambda: verdict(release(minimal, overview, RunOptions())), failing=("Release | Release notes",))
    (command,) = done[-1].commands
    assert command.argv[4] == "@fake: the release of notes failed; the reason stands above, at its operation."


def test_a_run_without_a_failure_says_so(plan_deploy: Planner, data: dict[str, Any]) -> None:
    last = plan_deploy(data)[-1]
    assert (last.commands, last.reasons) == ([], ["every step succeeded"])


def test_every_step_of_an_app_is_judged(plan: Planner, maximal: Settings, overview: HostOverview) -> None:
    judged: list[str] = []
    plan(lambda: judged.extend(tls(maximal) | release(maximal, overview, RunOptions())))
    assert judged == ["the certificate of notes", *(f"the release of {name}" for name in maximal.apps)]
    plan(verdict, {})


def test_units_are_enabled_unless_they_are(
    plan: Planner, minimal: Settings, overview: HostOverview, bare: Facts
) -> None:
    good = {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}
    for state in (
        {},
        {"UnitFileState": "disabled"},
        {"UnitFileState": "masked"},
        {"ActiveState": "failed"},
        {"NeedDaemonReload": "yes"},
    ):
        done = plan(nginx, minimal, overview, facts=bare | {Unit: good | state})("Enable nginx")
        lines = [command.argv[2:] for command in done.commands]
        assert lines == ([[operations._ENABLE, "slipway", "nginx.service"]] if state else []), state


# ── the ways in ──────────────────────────────────────────────────────────────────────────────────────────────────────


SSHD = "/etc/ssh/sshd_config.d/00-slipway.conf"
SSHD_UNIT = "/etc/systemd/system/ssh.service.d/50-slipway.conf"
MODULI = "/etc/ssh/slipway.moduli"
TABLE = "/etc/slipway/firewall.nft"
MAIN = "/etc/ssh/sshd_config"
ALONE = "/etc/ssh/slipway.conf"
FIRST = "Include /etc/ssh/slipway.conf"


def test_sshd_and_the_firewall_are_hardened_by_default(
    plan: Planner, minimal: Settings, overview: HostOverview
) -> None:
    request = ways_in(plan(access, minimal, overview))
    assert {each["path"] for each in request["files"]} == {SSHD, SSHD_UNIT, TABLE}
    assert (request["ssh"], request["firewall"], request["account"]) == (True, "load", None)
    assert request["host_keys"] == {"ed25519": 256, "rsa": 4096}
    told = dict(request["options"])
    assert (told["passwordauthentication"], told["permitrootlogin"]) == ("no", "without-password")
    assert told["kexalgorithms"] == "sntrup761x25519-sha512@openssh.com,curve25519-sha256", "of those it has, in order"


def test_what_is_switched_off_is_removed(
    plan: Planner,
    minimal_data: dict[str, Any],
    make_settings: MakeSettings,
    overview: HostOverview,
    converge: Converge,
) -> None:
    facts = converge(minimal_data)
    off = make_settings(minimal_data | {"ssh": {"enabled": False}, "firewall": {"enabled": False}})
    request = ways_in(plan(access, off, overview, facts=facts))
    gone = {each["path"]: each["content"] for each in request["files"]}
    assert gone == dict.fromkeys((SSHD, MODULI, SSHD_UNIT, TABLE))
    assert (request["ssh"], request["firewall"], request["options"]) == (True, "remove", [])
    # And on a host that never had them, nothing is done.
    bare = facts | {FirewallState: Firewall(), Places: {}}
    done = plan(access, off, overview, facts=bare)
    assert done("Change access, proven by a new connection").commands == []


def test_an_unconfirmed_change_is_made_anew_as_a_whole(
    plan: Planner, minimal: Settings, overview: HostOverview, minimal_data: dict[str, Any], converge: Converge
) -> None:
    facts = converge(minimal_data)
    title = "Change access, proven by a new connection"
    assert plan(access, minimal, overview, facts=facts)(title).reasons == ["access is as it should be"]
    pending = facts | {SshdState: dataclasses.replace(facts[SshdState], pending=True)}
    request = ways_in(plan(access, minimal, overview, facts=pending))
    assert {each["path"] for each in request["files"]} == {SSHD, SSHD_UNIT, TABLE}
    assert (request["ssh"], request["firewall"]) == (True, "load")


@pytest.mark.parametrize(
    ("wanted", "sshd", "named", "opened"),
    [
        (None, Sshd({"port": ("22",)}, used=frozenset({22})), [], [22]),
        # Moved by hand: it stays there, and is open.
        (None, Sshd({"port": ("2200",)}, other_ports=frozenset({2200}), used=frozenset({2200})), [], [2200]),
        # Moved by us, before the setting was taken out: it stays, too.
        (None, Sshd({"port": ("2222",)}, own_ports=frozenset({2222}), used=frozenset({2222})), [2222], [2222]),
        (2222, Sshd({"port": ("22",)}, used=frozenset({22})), [22, 2222], [22, 2222]),
        (2222, Sshd({"port": ("22", "2222")}, own_ports=frozenset({22, 2222}), used=frozenset({2222})), [2222], [2222]),
        # What another file names can't be named again: sshd would listen twice.
        (2222, Sshd({"port": ("2222",)}, other_ports=frozenset({2222}), used=frozenset({2222})), [], [2222]),
        (None, Sshd(), [], [22]),
    ],
)
def test_the_port_that_a_run_comes_in_by_stays_open(
    minimal_data: dict[str, Any],
    make_settings: MakeSettings,
    wanted: int | None,
    sshd: Sshd,
    named: list[int],
    opened: list[int],
) -> None:
    settings = make_settings(minimal_data | {"ssh": {"port": wanted}})
    assert (ssh.own_ports(settings, sshd), ssh.ports(settings, sshd)) == (named, opened)


def test_a_file_that_comes_before_ours_is_outdone(minimal: Settings) -> None:
    sshd = Sshd(main="UsePAM yes\n", main_mode="600", first=False)
    made = ssh.files(minimal, sshd)
    assert made[SSHD] is None and made[ALONE]
    main = made[MAIN]
    assert main and (main.content, main.mode) == (f"{FIRST}\nUsePAM yes\n", "600")
    again = ssh.files(minimal, dataclasses.replace(sshd, main=main.content))
    assert MAIN not in again
    back = ssh.files(minimal, dataclasses.replace(sshd, main=main.content, first=True))
    assert (back[MAIN], back[ALONE]) == (File("UsePAM yes\n", "600"), None)


@pytest.mark.parametrize(
    ("method", "key", "told"),
    [
        ("password", None, "logged in with a password"),
        ("publickey", RSAKey.generate(2048), "an RSA key of 2048 bits"),
        ("publickey", RSAKey.generate(3072), None),
        ("publickey", ECDSAKey.generate(), None),
        ("none", None, None),
    ],
)
def test_a_way_in_that_would_be_refused_is_told_before(
    plan: Planner,
    minimal: Settings,
    overview: HostOverview,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    key: object,
    told: str | None,
) -> None:
    transport = SimpleNamespace(auth_handler=SimpleNamespace(auth_method=method, private_key=key))
    monkeypatch.setattr(paramiko_api, "transport_of", lambda connector: transport)
    (command,) = plan(access, minimal, overview)("Change access, proven by a new connection").commands
    if told:
        assert command.argv[:2] == ["sh", "-c"] and told in command.argv[-1]
    else:
        assert command.argv == [PROGRAM, "access", "apply"]


def test_what_sshd_says_is_understood() -> None:
    printed = (
        "effective=port 22", "effective=port 2222", "effective=usepam yes", "kex=curve25519-sha256",
        "bits=rsa 3072 SHA256:x root@host (RSA)", "bits=ed25519 ", "main=VXNlUEFNIHllcwo=",
        "main_mode=600", "first=1", "own_port=2222", "other_port=22", "used=22", "pending=1",
    )  # fmt: skip
    assert SshdState().process([*printed]) == Sshd(
        effective={"port": ("22", "2222"), "usepam": ("yes",)},
        kex=frozenset({"curve25519-sha256"}),
        bits={"rsa": 3072},
        main="UsePAM yes\n",
        main_mode="600",
        first=True,
        own_ports=frozenset({2222}),
        other_ports=frozenset({22}),
        used=frozenset({22}),
        pending=True,
    )


def test_a_rule_for_proxies_holds_no_overlaps(minimal_data: dict[str, Any], make_settings: MakeSettings) -> None:
    networks = ["192.0.2.0/24", "192.0.2.128/25", "2001:db8::/32"]
    settings = make_settings(change(minimal_data, "<app>.trusted_proxies", networks))
    rules = firewall.ruleset(settings, [22])
    assert "ip saddr { 192.0.2.0/24 } accept" in rules and "ip6 saddr { 2001:db8::/32 } accept" in rules


def test_another_firewall_is_refused(minimal: Settings, overview: HostOverview) -> None:
    (reason,) = problems(dataclasses.replace(overview, firewall="ufw"), minimal, time.time())
    assert "ufw is in charge of the firewall" in reason and "`ufw disable`" in reason
