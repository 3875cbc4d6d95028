"""The parts of tests/target that need no Docker."""

from __future__ import annotations

import io
import ipaddress
import json
import runpy
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pyinfra.api.exceptions import InventoryError

from tests.target import __main__ as cli
from tests.target import acme, console, container, demo, engine, folders, host, image, keys, lifecycle, mirror

ROOT = Path(__file__).resolve().parents[2]

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
UNIFIED = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid,nodev,noexec,relatime 0 0\n"
LEGACY = "tmpfs /sys/fs/cgroup tmpfs ro 0 0\ncgroup /sys/fs/cgroup/systemd cgroup rw,name=systemd 0 0\n"


@pytest.mark.parametrize(
    ("mounts", "mode"), [(HYBRID, "hybrid"), (UNIFIED, "unified"), (LEGACY, "legacy"), ("", "legacy")]
)
def test_cgroups_are_told_from_mounts(mounts: str, mode: str) -> None:
    assert host.cgroup_mode(mounts) == mode


def test_cgroups_are_told_where_the_tree_is_mounted_elsewhere() -> None:
    assert host.cgroup_mode(HYBRID.replace("/sys/fs/cgroup", "/engine/cgroup"), "/engine/cgroup") == "hybrid"
    assert host.cgroup_mode(UNIFIED, "/engine/cgroup") == "legacy"


def test_a_target_leaves_the_machines_clock_alone() -> None:
    options = host.privileges(host.DROPPED)
    assert "--cap-drop=SYS_TIME" in options
    assert "--privileged" not in options


def test_engine_names_the_capability_it_lacks() -> None:
    said = 'invalid CapDrop: capability not supported by your kernel or not available: "CAP_SYS_RESOURCE"'
    assert host.lacking(said) == "SYS_RESOURCE"
    assert host.lacking("operation not permitted") is None


def test_recipe_hash_changes_with_content_names_and_arguments() -> None:
    recipe = {"Dockerfile": b"FROM a", "ca/": b""}
    hashes = {
        image.recipe_hash(recipe),
        image.recipe_hash(recipe, "bookworm"),
        image.recipe_hash(recipe | {"Dockerfile": b"FROM b"}),
        image.recipe_hash(recipe | {"ca/x.crt": b""}),
        image.recipe_hash({"DockerfileF": b"ROM a", "ca/": b""}),
    }
    assert len(hashes) == 5
    assert all(len(value) == 12 for value in hashes)


def test_recipe_hash_does_not_depend_on_order() -> None:
    assert image.recipe_hash({"a": b"1", "b": b"2"}) == image.recipe_hash({"b": b"2", "a": b"1"})


def test_build_context_has_files_and_empty_folders() -> None:
    with tarfile.open(fileobj=io.BytesIO(image.archive({"Dockerfile": b"FROM a", "ca/": b""}))) as tar:
        assert tar.getmember("ca").isdir()
        dockerfile = tar.extractfile("Dockerfile")
        assert dockerfile is not None and dockerfile.read() == b"FROM a"


def test_ports_are_distinct_free_and_outside_the_kernels_own() -> None:
    ports = folders.free_ports(5, taken=set())
    assert len(set(ports)) == 5
    assert all(port in folders.PORTS for port in ports)
    assert folders.PORTS.stop <= 32768


def test_ports_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        busy = listener.getsockname()[1]
        monkeypatch.setattr(folders, "PORTS", range(busy, busy + 1))
        with pytest.raises(console.TargetError, match="fewer than 1 free ports"):
            folders.free_ports(1, taken=set())
    assert folders.free_ports(1, taken=set()) == [busy]
    with pytest.raises(console.TargetError):
        folders.free_ports(1, taken={busy})


@pytest.mark.parametrize("name", ["", "Demo", "a_b", "../x", "-a", "a" * 32, "a b"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(console.TargetError, match="lower-case letters, digits and hyphens"):
        folders.folder_of(name)


def test_each_subnet_has_an_ipv6_one_of_its_own() -> None:
    """Private ones, by RFC 4193."""
    made = {container._subnet6(subnet) for subnet in ("172.18.0.0/16", "172.19.0.0/16", "192.168.16.0/20")}
    assert len(made) == 3
    assert all(ipaddress.IPv6Network(each).subnet_of(ipaddress.IPv6Network("fd00::/8")) for each in made)


def docker_object(ports: dict[int, int], **labels: str) -> dict[str, Any]:
    bindings = {f"{inside}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(out)}] for inside, out in ports.items()}
    return {
        "Config": {"Labels": labels},
        "HostConfig": {"PortBindings": bindings},
        "State": {"Status": "running"},
    }


@pytest.fixture
def described(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> lifecycle.Description:
    """A description made from what Docker would say of a target."""
    labels = {
        "slipway.os": "debian12",
        "slipway.limits": '{"memory_mb": 2048, "disk_mb": null}',
        "slipway.python": '{"version": "3.11", "downloads_json_url": "http://acme:8080/downloads.json"}',
    }
    objects = {
        "slipway-demo": docker_object({22: 20022, 80: 20080, 443: 20443}, **labels),
        "slipway-demo-acme": docker_object({15000: 20150, 8055: 20055}),
    }
    network = {"Id": "n", "IPAM": {"Config": [{"Subnet": "172.30.0.0/16"}]}}
    monkeypatch.setattr(container, "inspect", lambda kind, name: network if kind == "network" else objects.get(name))
    return container.describe("demo", tmp_path / ".target" / "demo")


def test_description_is_one_json_object(described: lifecycle.Description, tmp_path: Path) -> None:
    folder = tmp_path / ".target" / "demo"
    assert json.loads(json.dumps(described)) == {
        "name": "demo",
        "kind": "container",
        "os": "debian12",
        "state": "running",
        "container": "slipway-demo",
        "acme_container": "slipway-demo-acme",
        "network": "slipway-demo",
        "memory_mb": 2048,
        "disk_mb": None,
        "ip": "172.30.0.10",
        "ssh": {
            "host": "127.0.0.1",
            "port": 20022,
            "user": "deploy",
            "key": f"{folder}/id_ed25519",
            "known_hosts": f"{folder}/known_hosts",
        },
        "http_port": 20080,
        "https_port": 20443,
        "domains": ["notes.test", "litestar.test", "extra.test"],
        "ca_file": f"{folder}/ca.pem",
        "acme_directory": "https://acme:14000/dir",
        "acme_ca_file": f"{folder}/acme-ca.pem",
        "acme_eab": acme.EAB,
        "acme_management_url": "https://127.0.0.1:20150",
        "dns_url": "http://127.0.0.1:20055",
        "python": {"version": "3.11", "downloads_json_url": "http://acme:8080/downloads.json"},
    }


def test_report_prints_json_and_nothing_else(
    described: lifecycle.Description, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.report(described, as_json=True)
    assert json.loads(capsys.readouterr().out) == described
    cli.report(described, as_json=False)
    assert "deploy@127.0.0.1:20022" in capsys.readouterr().out


def inventory(
    described: lifecycle.Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **environment: str
) -> dict[str, Any]:
    """The host's data in inventories/docker.py, run beside a target's folder."""
    for name in ("SLIPWAY_TARGET", "SLIPWAY_APPS", "SLIPWAY_SSH_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / ".target" / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "target.json").write_text(json.dumps(described))
    copy = tmp_path / "inventories" / "docker.py"
    copy.parent.mkdir(exist_ok=True)
    copy.write_text((ROOT / "inventories" / "docker.py").read_text())
    [(name, data)] = runpy.run_path(str(copy))["hosts"]
    assert name == "@slipway/slipway-demo"
    assert isinstance(data, dict)
    return data


def test_inventory_is_made_from_the_description(
    described: lifecycle.Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = inventory(described, tmp_path, monkeypatch)
    assert (data["ssh_port"], data["ssh_user"], data["_sudo"]) == (20022, "deploy", True)
    assert data["verify"]["https_port"] == 20443
    assert list(data["slipway"]["apps"]) == ["notes"]
    assert data["slipway"]["acme"]["directory"] == "https://acme:14000/dir"


def test_inventory_takes_apps_and_user_from_the_environment(
    described: lifecycle.Description, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {"SLIPWAY_APPS": "notes,litestar-notes", "SLIPWAY_SSH_USER": "root"}
    data = inventory(described, tmp_path, monkeypatch, **environment)
    assert (data["ssh_user"], data["_sudo"]) == ("root", False)
    assert list(data["slipway"]["apps"]) == ["notes", "litestar-notes"]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"SLIPWAY_TARGET": "other"}, "no target other is up; `python -m tests.target up --name other` brings it up"),
        ({"SLIPWAY_APPS": "nots"}, "SLIPWAY_APPS: there is no nots; it takes notes and litestar-notes"),
    ],
)
def test_inventory_says_what_is_wrong(
    environment: dict[str, str],
    message: str,
    described: lifecycle.Description,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(InventoryError, match=message.replace(".", r"\.")):
        inventory(described, tmp_path, monkeypatch, **environment)


def test_mirror_lists_a_python_as_uv_reads_it() -> None:
    listed = mirror.downloads("3.11.2", "x86_64", "python-3.11.tar.gz", "0" * 64)
    assert list(listed) == ["cpython-3.11.2-linux-x86_64-gnu"]
    entry = listed["cpython-3.11.2-linux-x86_64-gnu"]
    assert isinstance(entry, dict)
    assert (entry["major"], entry["minor"], entry["patch"]) == (3, 11, 2)
    assert entry["url"] == "http://acme:8080/python-3.11.tar.gz"


def test_every_system_has_a_python_for_the_mirror() -> None:
    assert set(mirror.PYTHONS) == set(image.SUITES)


def test_certificates_expire_as_lets_encrypts_do() -> None:
    assert acme.config(acme.Addresses())["pebble"]["certificateValidityPeriod"] == 90 * 86400


def test_keys_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    folder.mkdir()
    public = keys.ssh_key(folder)
    assert public.startswith(b"ssh-ed25519 ")
    private = folder / "id_ed25519"
    assert private.stat().st_mode & 0o777 == 0o600
    serialization.load_ssh_private_key(private.read_bytes(), password=None)
    assert keys.ssh_key(folder) == public


def test_acme_certificate_names_the_server(tmp_path: Path) -> None:
    keys.acme_certificate(tmp_path, "172.30.0.11")
    leaf = x509.load_pem_x509_certificate((tmp_path / "acme.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((tmp_path / "acme-ca.pem").read_bytes())
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["acme", "localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "172.30.0.11"]
    before = (tmp_path / "acme.pem").read_bytes()
    keys.acme_certificate(tmp_path, "172.30.0.11")
    assert (tmp_path / "acme.pem").read_bytes() == before


def test_login_keys_belong_to_their_users() -> None:
    with tarfile.open(fileobj=io.BytesIO(host.authorized_keys(b"ssh-ed25519 AAAA\n"))) as tar:
        owners = {member.name: (member.uid, member.mode) for member in tar}
    assert owners == {
        "root/.ssh": (0, 0o700),
        "root/.ssh/authorized_keys": (0, 0o600),
        "home/deploy/.ssh": (1000, 0o700),
        "home/deploy/.ssh/authorized_keys": (1000, 0o600),
    }


@pytest.mark.parametrize(
    ("environment", "allowed"), [({"YES": "1"}, True), ({"CI": "true"}, True), ({"YES": "0"}, False), ({}, False)]
)
def test_this_machine_is_changed_only_with_leave(
    environment: dict[str, str], allowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert console.consent("Install it") is allowed


def test_refused_installation_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "consent", lambda action: False)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(console.TargetError, match=r"YES=1, or run: apt install docker\.io"):
        console.apt_install(["docker.io"], reason="there is no Docker engine on this machine")


def test_running_engine_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "answers", lambda: True)
    monkeypatch.setattr(engine, "run", lambda *_, **__: pytest.fail("a running engine needs no command"))
    engine.ensure()


def test_missing_target_ends_with_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lifecycle, "require", lambda: None)
    monkeypatch.setattr(container, "inspect", lambda kind, name: None)
    assert cli.main(["status", "--name", "none", "--json"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "Error: no target none; `python -m tests.target up --name none` brings one up\n"


def test_demo_sums_up_its_stages(monkeypatch: pytest.MonkeyPatch, described: lifecycle.Description) -> None:
    monkeypatch.delenv("SLIPWAY_STARTED", raising=False)
    stages = demo.Stages()
    stages.took = [("target", 2.0), ("deploy", 60.5)]
    assert stages.table().splitlines()[-1].split() == ["all", "62.5", "s"]
    shown = demo.closing(described, stages)
    for part in ("https://notes.test:20443/", "--resolve notes.test:20443:127.0.0.1", "make demo-down", "ca.pem"):
        assert part in shown
