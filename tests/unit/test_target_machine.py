"""The parts of a target that is a machine which need neither QEMU nor Docker."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.target import __main__ as cli
from tests.target import acme, console, container, demo, folders, lifecycle, machine, mirror, qemu, snapshots
from tests.target.qmp import Qmp, QmpError

HARDWARE = qemu.Hardware(1024, 2, {22: 20022, 80: 20080, 443: 20443})
PORTS = dict(zip(machine.PORTS, range(20000, 20008), strict=True))


def option(arguments: list[str], name: str) -> list[str]:
    """The values of an option that may be there several times."""
    return [value for key, value in pairwise(arguments) if key == name]


def test_a_machine_is_reached_from_this_machine_alone(tmp_path: Path) -> None:
    [network] = option(qemu.arguments("m", tmp_path, HARDWARE, "tcg"), "-netdev")
    forwarded = re.findall(r"hostfwd=tcp:([\d.]+):(\d+)-:(\d+)", network)
    assert forwarded == [("127.0.0.1", "20022", "22"), ("127.0.0.1", "20080", "80"), ("127.0.0.1", "20443", "443")]


def test_a_machines_disk_loses_only_what_it_had_not_flushed(tmp_path: Path) -> None:
    [disk] = option(qemu.arguments("m", tmp_path, HARDWARE, "tcg"), "-drive")
    assert "cache=writeback" in disk
    assert "cache=unsafe" not in disk


def test_the_monitors_path_does_not_grow_with_the_folders(tmp_path: Path) -> None:
    assert option(qemu.arguments("m", tmp_path, HARDWARE, "tcg"), "-qmp") == ["unix:qmp.sock,server=on,wait=off"]


def test_a_comma_in_a_path_does_not_end_it() -> None:
    [seed] = option(qemu.arguments("m", Path("/a,b"), HARDWARE, "tcg"), "-blockdev")
    assert "dir=/a,,b/seed," in seed


def test_kvm_is_used_where_it_works(tmp_path: Path) -> None:
    assert option(qemu.arguments("m", tmp_path, HARDWARE, "kvm"), "-accel") == ["kvm"]
    [software] = option(qemu.arguments("m", tmp_path, HARDWARE, "tcg"), "-accel")
    assert software.startswith("tcg,")


def test_a_machine_waits_for_a_snapshots_memory_when_told(tmp_path: Path) -> None:
    assert "-incoming" not in qemu.arguments("m", tmp_path, HARDWARE, "tcg")
    waiting = qemu.arguments("m", tmp_path, HARDWARE, "tcg", incoming=True)
    assert option(waiting, "-incoming") == ["defer"]
    assert "-S" in waiting


def test_a_machines_clock_is_ahead_at_later_boots_too(tmp_path: Path) -> None:
    assert option(qemu.arguments("m", tmp_path, HARDWARE, "tcg"), "-rtc") == ["base=utc"]
    ahead = qemu.Hardware(1024, 2, {}, clock=90 * 86400)
    [told] = option(qemu.arguments("m", tmp_path, ahead, "tcg"), "-rtc")
    then = datetime.strptime(told.removeprefix("base="), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    assert abs(then - datetime.now(UTC) - timedelta(days=90)) < timedelta(minutes=1)


# ── does KVM work here? ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kernel on a machine whose /dev/kvm opens."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.access", lambda path, mode: True)
    path = tmp_path / "vmlinuz"
    path.write_bytes(b"a kernel")
    return path


@pytest.mark.parametrize(("works", "told"), [(True, "kvm"), (False, "tcg")])
def test_kvm_is_tried_once_a_kernel(
    works: bool, told: str, kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def boots(arch: str, path: Path, log: Path) -> bool:
        tried.append(path)
        return works

    monkeypatch.setattr(qemu, "_boots", boots)
    assert [qemu.accelerator("x86_64", kernel, tmp_path / "cache") for _ in range(3)] == [told] * 3
    assert len(tried) == 1
    kernel.write_bytes(b"another kernel")
    qemu.accelerator("x86_64", kernel, tmp_path / "cache")
    assert len(tried) == 2


def test_kvm_is_not_tried_where_it_cannot_work(kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "_boots", lambda *_: pytest.fail("there is no /dev/kvm, or it is for another processor"))
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert qemu.accelerator("x86_64", kernel, tmp_path) == "tcg"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert qemu.accelerator("x86_64", kernel, tmp_path) == "tcg"


def test_a_kvm_that_aborts_or_hangs_is_passed_over_in_silence(
    kernel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def aborts(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(command, -6, b"", b"failed to set MSR 0x10a")

    def hangs(command: list[str], *, timeout: float) -> subprocess.CompletedProcess[bytes]:
        raise subprocess.TimeoutExpired(command, timeout)

    for fault in (aborts, hangs):
        monkeypatch.setattr(qemu, "run", fault)
        assert not qemu._boots("x86_64", kernel, tmp_path / "log")
    assert "MSR" not in "".join(capfd.readouterr())


def test_a_kernel_has_booted_when_it_misses_its_disk() -> None:
    assert qemu.boots(b"Linux version 6.12\r\n...\r\nKernel panic - not syncing: VFS: Unable to mount root fs on x")
    assert not qemu.boots(b"Linux version 6.12\r\nCommand line: console=ttyS0")
    assert not qemu.boots(b"")


# ── what stands beside it ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_acme_server_of_a_machine_listens_on_this_machine_alone() -> None:
    addresses = machine.addresses(PORTS)
    listens = (addresses.acme, addresses.management, addresses.dns, addresses.dns_management, addresses.mirror)
    assert all(address.startswith("127.0.0.1:") for address in listens)
    assert len({address.partition(":")[2] for address in listens}) == 5
    pebble = acme.config(addresses)["pebble"]
    assert (pebble["httpPort"], pebble["tlsPort"]) == (PORTS["http"], PORTS["https"])


def test_the_acme_server_of_a_container_is_where_it_was() -> None:
    pebble = acme.config(acme.Addresses())["pebble"]
    assert (pebble["listenAddress"], pebble["httpPort"], pebble["tlsPort"]) == ("0.0.0.0:14000", 80, 443)
    assert acme.Addresses().environment() == {"DNS": ":8053", "DNS_MANAGEMENT": ":8055", "MIRROR": "8080"}


def test_the_mirrors_list_names_the_port_it_is_served_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = mirror.downloads("3.13.5", "x86_64", "python-3.13.tar.gz", "0" * 64)
    (tmp_path / "downloads.json").write_text(json.dumps(listed))
    (tmp_path / "python-3.13.tar.gz").write_bytes(b"an archive")
    monkeypatch.setattr(mirror, "build", lambda *_: tmp_path)
    served = mirror.files("debian13", "image", tmp_path, "http://acme:20007")
    [entry] = json.loads(served["downloads.json"]).values()
    assert entry["url"] == "http://acme:20007/python-3.13.tar.gz"
    assert served["python-3.13.tar.gz"] == b"an archive"


def test_ports_of_machines_are_left_alone_by_other_clones(monkeypatch: pytest.MonkeyPatch) -> None:
    objects: dict[str, Any] = {
        "a": {"Config": {"Labels": {container.PORTS_LABEL: "[20001, 20002]"}}, "HostConfig": {"PortBindings": {}}},
        "b": {"Config": {"Labels": {}}, "HostConfig": {"PortBindings": {"22/tcp": [{"HostPort": "20003"}]}}},
    }
    monkeypatch.setattr(container, "_labelled", lambda kind: list(objects))
    monkeypatch.setattr(container, "inspect", lambda kind, name: objects[name])
    assert container.taken() == {20001, 20002, 20003}


def test_cloud_init_is_told_who_may_log_in() -> None:
    told = machine.user_data("slipway-demo", "ssh-ed25519 AAAA demo")
    assert told["hostname"] == "slipway-demo"
    assert {user["name"]: user["ssh_authorized_keys"] for user in told["users"]} == {
        "deploy": ["ssh-ed25519 AAAA demo"],
        "root": ["ssh-ed25519 AAAA demo"],
    }
    assert told["write_files"][0]["content"].splitlines() == [
        "10.0.2.2 acme",
        "10.0.2.15 notes.test litestar.test extra.test",
    ]


# ── a target is one or the other ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a machine "demo" that is off, beside a container "box"."""
    monkeypatch.setattr(folders, "ROOT", tmp_path)
    monkeypatch.setattr(lifecycle, "require", lambda: None)
    labels = {container.OS_LABEL: "debian12", container.FOLDER_LABEL: str(tmp_path / "box")}
    box = {"Config": {"Labels": labels}, "Name": "/slipway-box", "State": {"Status": "running"}}
    monkeypatch.setattr(container, "inspect", lambda kind, name: box if name == "slipway-box" else None)
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / "id_ed25519").touch()
    folder = tmp_path / "demo"
    folder.mkdir()
    python = {"version": "3.13", "downloads_json_url": "http://acme:20007/downloads.json"}
    machine.save(folder, machine.Settings("debian13", PORTS, python, str(tmp_path / ".cache" / "m")))
    return folder


def test_a_machine_is_described_as_a_container_is(made: Path) -> None:
    described = lifecycle.status("demo")
    assert json.loads(json.dumps(described)) == described
    assert (described["kind"], described["os"], described["state"]) == ("machine", "debian13", "off")
    assert described["ssh"]["port"] == PORTS["ssh"]
    assert described["acme_directory"] == f"https://acme:{PORTS['acme']}/dir"
    assert described["snapshots"] == []
    assert described["container"] == "slipway-demo"


def test_a_machine_that_is_off_says_how_to_boot_it(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["reboot"], ["clock", "+1d"], ["snapshot", "a"], ["ssh"]):
        assert cli.main([*verb, "--name", "demo"]) == 1
        assert "is off; `python -m tests.target up --name demo`" in capsys.readouterr().err


def test_only_a_machine_can(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["reset", "--name", "box"]) == 1
    assert "target box is a container, and only a machine can" in capsys.readouterr().err
    assert cli.main(["reset", "--name", "none"]) == 1
    assert "no target none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "wanted", "message"),
    [
        ("demo", {"machine": False}, "target demo is a machine"),
        ("box", {"machine": True}, "target box is a container"),
        ("demo", {"os_name": "debian12"}, "target demo is debian13"),
        ("box", {"memory": 512}, "a container, which has no memory; add --machine"),
    ],
)
def test_a_target_stays_what_it_is(name: str, wanted: dict[str, Any], message: str, made: Path) -> None:
    with pytest.raises(console.TargetError, match=message):
        lifecycle.up(name, **wanted)


def test_another_size_needs_its_own_verb(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "require", lambda arch: None)
    with pytest.raises(console.TargetError, match=r"has memory 1024, not 512; `memory --name demo MB`"):
        lifecycle.up("demo", memory=512)


def test_an_unknown_snapshot_is_told_beside_the_known(made: Path) -> None:
    (made / "snapshots" / "provisioned").mkdir(parents=True)
    (made / "snapshots" / "broken.partial").mkdir()
    with pytest.raises(console.TargetError, match=r"no snapshot provisoned \(it has: provisioned\)"):
        lifecycle.restore("demo", "provisoned")
    with pytest.raises(console.TargetError, match="lower-case letters"):
        snapshots.folder_of(made, "../other")


def test_demo_asks_for_a_machine_when_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def up(name: str, os_name: str | None, **kind: Any) -> None:
        asked.append(kind)
        raise console.TargetError("enough")

    monkeypatch.setattr("tests.target.engine.ensure", lambda: None)
    monkeypatch.setattr(lifecycle, "up", up)
    assert demo.main(["--machine"]) == 1
    assert demo.main([]) == 1
    assert asked == [{"machine": True}, {"machine": None}]


@pytest.mark.parametrize(("change", "seconds"), [("+90d", 90 * 86400), ("-1h", -3600), ("+2m", 120), ("-5s", -5)])
def test_changes_of_a_clock(change: str, seconds: int) -> None:
    assert cli.seconds(change) == seconds


@pytest.mark.parametrize("change", ["90d", "+d", "tomorrow", "+1w", ""])
def test_bad_changes_of_a_clock_are_refused(change: str) -> None:
    with pytest.raises(console.TargetError, match=re.escape("such as +90d")):
        cli.seconds(change)


# ── the monitor ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[tuple[Path, list[dict[str, Any]]]]:
    """A monitor that knows two commands, at a path too long for a socket's address; and what it was told."""
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    told: list[dict[str, Any]] = []
    listener = socket.socket(socket.AF_UNIX)
    # Bound elsewhere and moved, as QEMU binds it from within its folder.
    listener.bind(str(tmp_path / "s"))
    (tmp_path / "s").rename(folder / "qmp.sock")
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection, connection.makefile("rwb") as lines:
            lines.write(b'{"QMP": {}}\n')
            lines.flush()
            for line in lines:
                command = json.loads(line)
                told.append(command)
                if command["execute"] == "quit":
                    return
                known = command["execute"] in {"qmp_capabilities", "migrate-set-parameters"}
                lines.write(b'{"event": "STOP"}\n')
                lines.write(b'{"return": {"a": 1}}\n' if known else b'{"error": {"desc": "not known"}}\n')
                lines.flush()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield folder / "qmp.sock", told
    thread.join(5)


def test_the_monitor_answers_between_events(monitor: tuple[Path, list[dict[str, Any]]]) -> None:
    path, told = monitor
    with Qmp(path) as connection:
        assert connection("migrate-set-parameters", max_bandwidth=10) == {"a": 1}
        assert told[-1] == {"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 10}}
        with pytest.raises(QmpError, match="`stp`: not known"):
            connection("stp")
        with pytest.raises(QmpError, match="the machine ended, or hangs, at `quit`"):
            connection("quit")


def test_a_monitor_that_is_not_there_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match=r"qmp\.sock does not answer"):
        Qmp(tmp_path / "qmp.sock")


def test_a_machine_without_a_process_is_off(tmp_path: Path) -> None:
    assert qemu.pid(tmp_path) is None
    assert not qemu.kill(tmp_path)
