"""Rules for all that is made from templates, and for units; the texts themselves are in tests/unit/golden."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from jinja2 import UndefinedError
from slipway_host.proxy import generations

from roles import app as app_role
from roles import firewall, limits
from slipway.engine.overview import HostOverview
from slipway.engine.templates import render
from slipway.settings import AppSettings, Settings
from slipway.settings.environment import names_host
from tests.unit.golden_cases import CASES
from tests.unit.goldens import GOLDEN
from tests.unit.inventories import MARK

ROOT = Path(__file__).resolve().parents[3]
MakeSettings = Callable[[Mapping[str, Any]], Settings]


OVERVIEW = HostOverview("debian", "12", "x86_64", True, True, 2, 2000, 9000, 0, {}, {})
NO_TEMPLATES = re.compile(
    r"access\.json|commands\.txt|files\.txt|release/.*|etc/issue.*|etc/[a-z-]+/(env|deploy_key|dependencies_key|known_hosts|dependencies_known_hosts)|.*/extra/.*"
    r"|opt/slipway/.*|etc/slipway/tls/.*\.pem|etc/systemd/system/swapfile\.swap|home/.*"
)
"""Of golden texts, those that no template makes."""


def rendered() -> dict[str, str]:
    """``case/path`` → text, of every golden text that a template makes."""
    found = {}
    for case in CASES:
        for path in sorted((GOLDEN / case).rglob("*")):
            if path.is_file() and not NO_TEMPLATES.fullmatch(str(path.relative_to(GOLDEN / case))):
                found[str(path.relative_to(GOLDEN))] = path.read_text(encoding="utf-8")
    return found


@pytest.fixture(params=["minimal", "maximal"])
def settings(request: pytest.FixtureRequest) -> Settings:
    """Settings with every default, and with none."""
    made: Settings = request.getfixturevalue(request.param)
    return made


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_file_is_tidy() -> None:
    for path, text in rendered().items():
        assert text.endswith("\n") and not text.endswith("\n\n"), f"{path} must end with one line break"
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), f"{path} has whitespace at a line's end"
        assert "\t" not in text, f"{path} has a tab"
        assert not re.search(r"\n\n\n|\{\n\n|\n\n *\}", text), f"{path} has stray blank lines"
        assert "{{" not in text and "{%" not in text and "None" not in text, f"{path} isn't rendered"


def test_a_name_in_a_pattern_is_short_whatever_an_app_is_called() -> None:
    """PCRE takes 32 characters, as many as an app's name may have."""
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "templates/nginx").glob("*.j2")]
    names = [name for text in texts for name in re.findall(r"\(\?<(.*?)>", text)]
    assert "said_host" in names and all(re.fullmatch(r"\w{1,32}|[=!].*", name) for name in names), names


def test_every_file_says_who_manages_it() -> None:
    managers = r"(?:#|//|Origin:) Managed by Slipway \((?:(roles/[a-z]+(?:\.py)?)|slipway release)\)"
    found = rendered()
    assert len(found) > 100
    for path, text in found.items():
        if path.startswith("maximal") and "/etc/notes/files/" in path:
            continue  # the operator's own, as it is
        first = text.removeprefix("#!/bin/sh\n").splitlines()[0]
        match = re.match(managers, first)
        assert match and (not match[1] or (ROOT / match[1]).exists()), f"{path} begins with {first!r}"


def test_no_file_but_its_own_repeats_a_secret() -> None:
    """Of an app's, its environment; certbot takes the key of the account binding from nowhere but its file."""
    texts = {path: path.read_text(encoding="utf-8") for path in GOLDEN.rglob("*") if path.is_file()}
    found = {str(path.relative_to(GOLDEN)).partition("/")[2] for path, text in texts.items() if MARK in text}
    assert found == {"etc/notes/env", "etc/notes/files/config@local.ini", "etc/slipway/tls/certbot.ini"}


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("app/app.socket.j2", {}),
        ("app/app.service.j2", {"workers": 1, "sandbox": [], "subdir": ""}),
        ("nginx/errors.conf.j2", {}),
        ("nginx/headers.conf.j2", {}),
        ("nginx/nginx.conf.j2", {"worker_shutdown_timeout": 1}),
        ("nginx/internal.conf.j2", {"apps": []}),
        ("nginx/proxy.conf.j2", {}),
        ("nginx/site.conf.j2", {}),
        ("base/journald.conf.j2", {}),
        ("tls/certbot.ini.j2", {}),
        ("tls/certbot-renew.service.j2", {}),
    ],
)
def test_an_undefined_name_is_an_error(template: str, values: dict[str, Any]) -> None:
    with pytest.raises(UndefinedError):
        render(template, **values)


# ── what an app may reach and take ───────────────────────────────────────────────────────────────────────────────────


def test_apps_reach_no_sshd_and_few_places_of_nginx(settings: Settings) -> None:
    rules = firewall.ruleset(settings, [22, 2222])
    chain = rules.partition("chain apps {")[2].partition("}\n    }")[0]
    assert "tcp dport { 22, 2222 } counter reject with tcp reset" in chain
    assert "meta skuid ct count over 200" in chain
    assert "meta skuid != 0 tcp dport { 22, 2222 } goto local_ssh" in rules
    assert rules.index('oifname != "lo" accept') < rules.index("meta skuid @apps goto apps")
    for path, file in firewall.of_apps(settings).items():
        name = path.rpartition("/")[2].removesuffix(".nft")
        assert f'add element inet slipway apps {{ "{name}" }}' in file.content
        port = settings.apps[name].port
        assert (f"add element inet slipway sites {{ {port} }}" in file.content) == bool(port)


def test_an_app_cannot_take_sshd_s_port_where_the_kernel_can_keep_it(minimal: Settings) -> None:
    def slices(ports: list[int]) -> str:
        return limits.files(minimal, OVERVIEW, ports)["/etc/systemd/system/app-notes.slice"].content

    assert "SocketBindDeny=tcp:2222\nSocketBindDeny=tcp:2200\n" in slices([22, 2222, 2200])
    assert "SocketBind" not in slices([22]), "it may not have that one anyway"


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("postgresql://notes:x@db.example.com/notes", True),
        ("postgresql://localhost/notes", True),
        ("postgresql:///notes?host=/run/postgresql", False),
        ("postgresql://notes@/notes?host=/run/postgresql", False),
        ("postgresql://notes@%2Frun%2Fpostgresql/notes", False),
        ("sqlite+aiosqlite:////var/lib/notes/notes.db", False),
    ],
)
def test_which_databases_are_on_a_host(url: str, named: bool) -> None:
    assert names_host(url) is named


# ── units ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def unit(app: AppSettings, kind: str, workers: int = 2) -> dict[str, dict[str, list[str]]]:
    """Section → key → values of a rendered unit; continued lines are joined."""
    sections: dict[str, dict[str, list[str]]] = {}
    current: dict[str, list[str]] = {}
    for line in app_role.units(app, workers)[kind].replace("\\\n", " ").splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, separator, value = line.partition("=")
            assert separator, f"no key: {line!r}"
            current.setdefault(key, []).append(value)
    return sections


SHUT_OFF = {
    "NoNewPrivileges": ["yes"],
    "CapabilityBoundingSet": [""],
    "ProtectSystem": ["strict"],
    "ProtectHome": ["yes"],
    "ProtectProc": ["invisible"],
    "ProtectKernelTunables": ["yes"],
    "ProtectKernelModules": ["yes"],
    "ProtectKernelLogs": ["yes"],
    "ProtectControlGroups": ["yes"],
    "ProtectClock": ["yes"],
    "ProtectHostname": ["yes"],
    "PrivateDevices": ["yes"],
    "PrivateUsers": ["yes"],
    "PrivateIPC": ["yes"],
    "DevicePolicy": ["closed"],
    "RestrictNamespaces": ["yes"],
    "RestrictRealtime": ["yes"],
    "RestrictSUIDSGID": ["yes"],
    "LockPersonality": ["yes"],
    "RemoveIPC": ["yes"],
    "KeyringMode": ["private"],
    "SystemCallArchitectures": ["native"],
    "ReadOnlyPaths": ["/run"],
    "BindReadOnlyPaths": ["-/run/systemd/resolve"],
    "InaccessiblePaths": [
        (
            "-/var/lib/apt -/var/lib/dpkg -/var/cache/apt -/var/cache/debconf -/var/log/lastlog -/var/log/wtmp "
            "-/dev/ptmx -/dev/pts"
        ),
        "-/run/dbus -/run/ssh-unix-local -/run/utmp",
    ],
    "StateDirectoryMode": ["0750"],
}
"""Key of an app's unit → its values, whatever the settings."""
MAY_BE_OFF = {
    "MemoryDenyWriteExecute": ["yes"],
    "ProcSubset": ["pid"],
    "SystemCallFilter": [
        "@system-service",
        # What is allowed first, then what isn't of that.
        "~@privileged @resources io_uring_setup io_uring_enter io_uring_register",
    ],
    "SystemCallErrorNumber": ["EPERM"],
}
"""The same, of what breaks some packages and can be switched off."""


def test_every_service_is_shut_off(settings: Settings) -> None:
    for app in settings.apps.values():
        service = unit(app, "service")["Service"]
        assert {key: service.get(key) for key in SHUT_OFF} == SHUT_OFF
        assert service["User"] == service["Group"] == service["StateDirectory"] == service["LogNamespace"] == [app.name]
        assert service["TemporaryFileSystem"] == [
            "/run/systemd:ro,mode=755",
            "/dev/shm:nosuid,nodev,mode=1777,size=64M,nr_inodes=16384",
            "/tmp:nosuid,nodev,mode=1777,size=25%,nr_inodes=65536",
            "/var/tmp:nosuid,nodev,mode=1777,size=25%,nr_inodes=65536",
        ]


NETWORK = {
    "internet": {"RestrictAddressFamilies": ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]},
    "unix": {"RestrictAddressFamilies": ["AF_UNIX"], "PrivateNetwork": ["yes"], "IPAddressDeny": ["any"]},
}
"""sandbox.network → what an app may talk to."""


@pytest.mark.parametrize("network", NETWORK)
def test_what_an_app_may_talk_to(make_settings: MakeSettings, minimal_data: dict[str, Any], network: str) -> None:
    minimal_data["apps"]["notes"]["sandbox"] = {"network": network}
    service = unit(make_settings(minimal_data).apps["notes"], "service")["Service"]
    keys = {"RestrictAddressFamilies", "PrivateNetwork", "IPAddressDeny", "IPAddressAllow"}
    assert {key: value for key, value in service.items() if key in keys} == NETWORK[network]


def test_what_breaks_packages_can_be_switched_off(maximal: Settings) -> None:
    on, off = (unit(maximal.apps[name], "service")["Service"] for name in ("lab", "notes"))
    assert {key: on.get(key) for key in MAY_BE_OFF} == MAY_BE_OFF
    assert not off.keys() & MAY_BE_OFF.keys()


def test_systemd_waits_longer_than_gunicorn(settings: Settings) -> None:
    for app in settings.apps.values():
        service = unit(app, "service")["Service"]
        assert int(service["TimeoutStopSec"][0]) > app.graceful_timeout
        assert service["KillMode"] == ["mixed"]


def test_the_migration_is_shut_off_as_the_service_is(maximal: Settings) -> None:
    for app in maximal.apps.values():
        service = unit(app, "service")["Service"]
        for line in app_role.sandbox(app):
            key, _, value = line.partition("=")
            assert value in service[key], line


def test_only_nginx_may_connect_to_the_socket(settings: Settings) -> None:
    for app in settings.apps.values():
        sections = unit(app, "socket")
        socket = sections["Socket"]
        assert socket["ListenStream"] == [app.socket_path("@RELEASE@")]
        assert (socket["SocketUser"], socket["SocketGroup"], socket["SocketMode"]) == (
            ["www-data"],
            ["www-data"],
            ["0600"],
        )
        assert socket["Service"] == [app.unit("@RELEASE@").service]
        assert sections["Install"] == {"WantedBy": ["sockets.target"]}


@pytest.mark.parametrize(
    ("named", "marked", "runs"),
    [("r1", [], True), ("r2", [], False), (None, [], False), ("r2", ["r1"], True), ("r11", [], False)],
)
def test_a_boot_starts_the_workers_of_the_release_that_nginx_names(
    maximal: Settings, tmp_path: Path, named: str | None, marked: list[str], runs: bool
) -> None:
    """Whatever `current` says: between a switch and its commit it names another."""
    app = maximal.apps["notes"]
    conditions = unit(app, "worker.1.service")["Service"]["ExecCondition"]
    command = re.fullmatch(r"\+/bin/sh -c '(.*)'", conditions[0])
    assert command and len(conditions) == 1
    upstream = Path(f"{tmp_path}{app.upstream_path}")
    upstream.parent.mkdir(parents=True)
    if named:
        upstream.write_text(generations.upstream(app.at, named))
    for each in marked:
        mark = Path(f"{tmp_path}{app.at.started}/{each}")
        mark.parent.mkdir(parents=True)
        mark.touch()
    text = command[1].replace("$$", "$").replace("@RELEASE@", "r1")
    for path in (app.upstream_path, app.at.started):
        text = text.replace(f" {path}", f" {tmp_path}{path}")
    assert (subprocess.run(["/bin/sh", "-c", text], check=False).returncode == 0) is runs


def test_the_environment_is_no_part_of_a_unit(maximal: Settings) -> None:
    for app in maximal.apps.values():
        for text in app_role.units(app, 2).values():
            assert "TOKEN" not in text and "LOG_LEVEL" not in text


def test_root_runs_no_program_of_a_release() -> None:
    """A unit's PATH begins with the release's programs, and any of its packages may bring one that is called `date`."""
    lines = [
        (path, line)
        for path, text in rendered().items()
        if "/.venv/bin:" in text
        for line in text.splitlines()
        if line.partition("=")[2].startswith("+")
    ]
    assert len(lines) > 5
    for path, line in lines:
        assert line.partition("=")[2].startswith("+/bin/sh -c 'PATH=/usr/local/bin:/usr/bin:/bin; "), f"{path}: {line}"
