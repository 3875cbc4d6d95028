"""A target's life: up, down, status, reboot.

Docker's objects are the truth: ports, system and addresses are read from them, never remembered beside them. So `up`
may be killed anywhere and goes on from what is there; `target.json` is written last and is a view for readers.
"""

from __future__ import annotations

import ipaddress
import json
import random
import re
import shutil
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.target import acme, host, image, keys, likeness, mirror
from tests.target.console import TargetError, exclusive, say, step
from tests.target.engine import LABEL, DockerError, docker, inspect, require

ROOT = Path(__file__).resolve().parents[2] / ".target"
"""Folder of all targets of this clone: one folder each, `.cache` and `.locks`."""

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,30}")
"""Names a target may have: they become part of host names."""

PORTS = range(20000, 32768)
"""Ports on 127.0.0.1 to choose from: below those the kernel gives to outgoing connections, which could take one
while its target is stopped."""

FOLDER_LABEL, OS_LABEL, PYTHON_LABEL = "slipway.folder", "slipway.os", "slipway.python"
"""Labels of a target's container: the folder with its keys, its system, its Python as JSON."""

HOST_ADDRESS, ACME_ADDRESS = 10, 11
"""Fixed places of the two containers in their network, so that DNS stays right across restarts."""

DEFAULT_OS = "debian12"

Description = dict[str, Any]
"""A target as `up --json` prints it; see `describe`."""


class NoTarget(TargetError):
    """There is no target of that name."""


def folder_of(name: str) -> Path:
    """The folder of a target's keys; raises TargetError for a name that can't be one."""
    if not NAME.fullmatch(name):
        raise TargetError(f"--name {name!r}: use lower-case letters, digits and hyphens, 31 characters at most")
    return ROOT / name


@contextmanager
def locked(name: str) -> Iterator[Path]:
    """The target's folder, with no other command at work on it."""
    folder = folder_of(name)
    with exclusive(ROOT / ".locks" / f"{name}.lock"):
        yield folder


def up(name: str, os_name: str | None = None) -> Description:
    """Bring a target up, or heal it: started, booted, reachable.

    `os_name`: a key of image.SUITES; None keeps what is there, and is DEFAULT_OS where nothing is.
    """
    require()
    with locked(name) as folder:
        host_found, acme_found = _own(name, folder)
        if host_found and os_name and host_found["Config"]["Labels"][OS_LABEL] != os_name:
            has = host_found["Config"]["Labels"][OS_LABEL]
            raise TargetError(
                f"target {name} is {has}; `down --name {name}` removes it, another --name stands beside it"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        network, addresses = _network(name, folder)

        if not _usable(host_found, network, "id_ed25519"):
            _remove(host_found)
            _create_host(name, os_name or DEFAULT_OS, folder, addresses)
        if not _usable(acme_found, network, "acme-ca.pem"):
            _remove(acme_found)
            _create_acme(name, folder, addresses)
        _start(_acme_name(name))
        _start(_host_name(name))
        return _ready(name, folder)


def reboot(name: str, *, hard: bool = False) -> Description:
    """Reboot a target: /run, /tmp and every process are lost, disk and Pebble stay. `hard`: as by pulling the plug."""
    require()
    with locked(name) as folder:
        _existing(name, folder)
        if hard:
            host.kill(_host_name(name), disk=bool(describe(name, folder)["disk_mb"]))
            docker("start", _host_name(name))
        else:
            # The image's stop signal asks systemd for a clean shutdown; seconds are how long that may take.
            docker("restart", "--time", "60", _host_name(name))
        return _ready(name, folder)


def status(name: str) -> Description:
    """A target's description; its "state" says whether it runs. Raises NoTarget where there is none."""
    require()
    folder = folder_of(name)
    _existing(name, folder)
    description = describe(name, folder)
    acme.refresh_root(description["acme_management_url"], folder)
    return description


def down(name: str) -> list[str]:
    """Remove all of a target: containers, network, folder; returns what was removed, empty where nothing was."""
    require()
    with locked(name) as folder:
        _own(name, folder)
        containers = _labelled("container", name)
        networks = _labelled("network", name)
        if containers:
            docker("rm", "--force", "--volumes", *containers)
        if networks:
            docker("network", "rm", *networks)
        removed = [f"{len(containers)} containers"] * bool(containers) + ["network"] * bool(networks)
        if folder.exists():
            shutil.rmtree(folder)
            removed.append("folder")
        return removed


def describe(name: str, folder: Path) -> Description:
    """The one object that `up --json` and `status --json` print, from what Docker says; paths are absolute.

    state: "running", or Docker's word for what it is instead; ssh, http_port, https_port: on 127.0.0.1; ca_file: root
    of the issued certificates; acme_directory: as seen from inside the target's network, its HTTPS signed by
    acme_ca_file; acme_management_url, dns_url: Pebble's and its DNS's control, on 127.0.0.1, for fault tests; python:
    what the target can install, from downloads_json_url or, where that is null, from uv's own source; memory_mb,
    disk_mb: what it has for itself, null where it has its machine's.
    """
    found, beside = inspect("container", _host_name(name)), inspect("container", _acme_name(name))
    if found is None or beside is None:
        raise TargetError(f"target {name} is incomplete; `python -m tests.target up --name {name}` heals it")
    ports, acme_ports, labels = _ports(found), _ports(beside), found["Config"]["Labels"]
    _, addresses = _network(name, folder)
    return {
        "name": name,
        "os": labels[OS_LABEL],
        "state": found["State"]["Status"],
        "container": _host_name(name),
        "acme_container": _acme_name(name),
        "network": _network_name(name),
        **likeness.of(labels),
        "ip": addresses[HOST_ADDRESS],
        "ssh": {
            "host": "127.0.0.1",
            "port": ports[22],
            "user": host.USER,
            "key": str(folder / "id_ed25519"),
            "known_hosts": str(folder / "known_hosts"),
        },
        "http_port": ports[80],
        "https_port": ports[443],
        "domains": list(host.DOMAINS),
        "ca_file": str(folder / "ca.pem"),
        "acme_directory": acme.DIRECTORY,
        "acme_ca_file": str(folder / "acme-ca.pem"),
        "acme_eab": acme.EAB,
        "acme_management_url": f"https://127.0.0.1:{acme_ports[15000]}",
        "dns_url": f"http://127.0.0.1:{acme_ports[8055]}",
        "python": json.loads(labels[PYTHON_LABEL]),
    }


def free_ports(count: int, taken: Collection[int]) -> list[int]:
    """Ports of PORTS that nobody listens on and no stopped target of this engine has, in random order."""
    chosen: list[int] = []
    for port in random.sample(PORTS, len(PORTS)):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        chosen.append(port)
        if len(chosen) == count:
            return chosen
    raise TargetError(f"fewer than {count} free ports in {PORTS.start}-{PORTS.stop - 1} on 127.0.0.1; remove a target")


def _host_name(name: str) -> str:
    return f"slipway-{name}"


def _acme_name(name: str) -> str:
    return f"slipway-{name}-acme"


def _network_name(name: str) -> str:
    return f"slipway-{name}"


def _labelled(kind: str, name: str | None = None) -> list[str]:
    label = f"label={LABEL}" + (f"={name}" if name else "")
    every = ["--all"] if kind == "container" else []
    return docker(kind, "ls", *every, "--quiet", "--no-trunc", "--filter", label).split()


def _own(name: str, folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The two containers where they exist; raises TargetError where they are another clone's."""
    both = inspect("container", _host_name(name)), inspect("container", _acme_name(name))
    for found in both:
        if found is None:
            continue
        owner = (found["Config"]["Labels"] or {}).get(FOLDER_LABEL)
        if owner is None:
            raise TargetError(
                f"container {found['Name'].strip('/')} is not a target's; rename it, or use another --name"
            )
        if owner != str(folder) and Path(owner).is_dir():
            raise TargetError(
                f"target {name} belongs to {Path(owner).parents[1]}; use another --name, or remove it there"
            )
    return both


def _existing(name: str, folder: Path) -> None:
    if _own(name, folder)[0] is None:
        raise NoTarget(f"no target {name}; `python -m tests.target up --name {name}` brings one up")
    if not (folder / "id_ed25519").is_file():
        raise TargetError(
            f"the keys of target {name} are gone; `python -m tests.target up --name {name}` makes it anew"
        )


def _usable(found: dict[str, Any] | None, network: str, secret: str) -> bool:
    """False for a container that is missing, was never started, or lacks its network or its file in the folder."""
    if found is None or found["State"]["Status"] in {"created", "dead", "removing"}:
        return False
    labels, attached = found["Config"]["Labels"], found["NetworkSettings"]["Networks"].values()
    return (Path(labels[FOLDER_LABEL]) / secret).is_file() and any(end["NetworkID"] == network for end in attached)


def _remove(found: dict[str, Any] | None) -> None:
    if found is None:
        return
    if found["State"]["Status"] != "created":
        say(f"{found['Name'].strip('/')} can't be used as it is (its keys or network are gone): making it anew.")
    docker("rm", "--force", "--volumes", found["Id"])


def _network(name: str, folder: Path) -> tuple[str, dict[int, str]]:
    """The target's network, made unless it is there: its id, and the address at each place in it."""
    found = inspect("network", _network_name(name))
    if found is None:
        # Only a network with a subnet of one's own allows fixed addresses: let Docker find a free one, and take that.
        labels = [f"--label={LABEL}={name}", f"--label={FOLDER_LABEL}={folder}"]
        docker("network", "create", *labels, _network_name(name))
        subnet = _subnet(name)
        docker("network", "rm", _network_name(name))
        v4 = [f"--subnet={subnet}", *labels, _network_name(name)]
        try:
            docker("network", "create", "--ipv6", f"--subnet={_subnet6(subnet)}", *v4)
        except DockerError:  # an engine, or its kernel, without IPv6
            docker("network", "create", *v4)
        found = inspect("network", _network_name(name))
        if found is None:
            raise TargetError(f"network {_network_name(name)} vanished while it was made; run `up` again")
    base = ipaddress.ip_network(found["IPAM"]["Config"][0]["Subnet"]).network_address
    return found["Id"], {place: str(base + place) for place in (HOST_ADDRESS, ACME_ADDRESS)}


def _subnet(name: str) -> str:
    found = inspect("network", _network_name(name)) or {}
    return str(found["IPAM"]["Config"][0]["Subnet"])


def _subnet6(subnet: str) -> str:
    """A private IPv6 subnet (RFC 4193), as much a target's own as its IPv4 one, whose address is part of it."""
    part = ipaddress.ip_network(subnet).network_address.packed.hex()
    return f"fd73:6c69:{part[:4]}:{part[4:]}::/64"


def _ports(found: dict[str, Any]) -> dict[int, int]:
    """Container's port → port on 127.0.0.1, as configured, so also of a stopped container."""
    bindings = found["HostConfig"]["PortBindings"] or {}
    return {int(inside.split("/")[0]): int(outside[0]["HostPort"]) for inside, outside in bindings.items()}


def _taken() -> set[int]:
    """Ports of every target of this engine, the stopped ones and other clones' included."""
    found = (inspect("container", container) for container in _labelled("container"))
    return {port for container in found if container for port in _ports(container).values()}


def _options(
    name: str, own_name: str, folder: Path, address: str, aliases: Collection[str], inside: Collection[int]
) -> list[str]:
    ports = zip(free_ports(len(inside), _taken()), inside, strict=True)
    return [
        f"--name={own_name}",
        f"--hostname={own_name}",
        f"--label={LABEL}={name}",
        f"--label={FOLDER_LABEL}={folder}",
        f"--network={_network_name(name)}",
        f"--ip={address}",
        *(f"--network-alias={alias}" for alias in aliases),
        *(f"--publish=127.0.0.1:{outside}:{port}" for outside, port in ports),
    ]


def _create_host(name: str, os_name: str, folder: Path, addresses: dict[int, str]) -> None:
    with exclusive(ROOT / ".locks" / "images.lock"):
        tag = image.host_image(os_name)
    host.require_cgroups(tag)
    python = {"version": mirror.DEFAULT_PYTHON, "downloads_json_url": None}
    if not mirror.upstream_answers():
        python = {"version": mirror.PYTHONS[os_name], "downloads_json_url": f"{mirror.URL}/downloads.json"}
    labels = [f"--label={OS_LABEL}={os_name}", f"--label={PYTHON_LABEL}={json.dumps(python)}"]
    public_key = keys.ssh_key(folder)
    ports = (22, 80, 443)
    options = [*_options(name, _host_name(name), folder, addresses[HOST_ADDRESS], host.DOMAINS, ports), *labels]
    dropped, privileged = list(host.DROPPED), False
    while True:
        try:
            privileges = ["--privileged"] if privileged else host.privileges(dropped)
            docker("start", host.create(tag, options, privileges, public_key))
        except DockerError as error:
            _remove(inspect("container", _host_name(name)))
            if (lacking := host.lacking(str(error))) in dropped:
                dropped.remove(lacking)
            elif "not permitted" in str(error) and not privileged:
                privileged = True  # the last resort: it hands over the machine's devices too
            else:
                raise
        else:
            return


def _create_acme(name: str, folder: Path, addresses: dict[int, str]) -> None:
    with exclusive(ROOT / ".locks" / "images.lock"):
        tag = image.acme_image()
    keys.acme_certificate(folder, addresses[ACME_ADDRESS])
    options = _options(name, _acme_name(name), folder, addresses[ACME_ADDRESS], ["acme"], (15000, 8055))
    found = inspect("container", _host_name(name)) or {}
    labels = found["Config"]["Labels"]
    served = None
    if json.loads(labels[PYTHON_LABEL])["downloads_json_url"]:
        served = mirror.build(labels[OS_LABEL], found["Config"]["Image"], ROOT / ".cache")
    acme.create(tag, options, addresses[HOST_ADDRESS], folder, served)


def _start(container: str) -> None:
    found = inspect("container", container)
    state = found["State"]["Status"] if found else "missing"
    if state == "paused":
        docker("unpause", container)
    elif state != "running":
        try:
            docker("start", container)
        except DockerError as error:
            if "address already in use" in str(error) or "already allocated" in str(error):
                raise TargetError(
                    f"a port of {container} was taken while it was stopped; free it, or `down` and `up`\n{error}"
                ) from None
            raise


def _ready(name: str, folder: Path) -> Description:
    """Wait until all of the target answers, and write the files that say so; returns its description."""
    description = describe(name, folder)
    with step(f"target {name} answers"):
        failed = host.wait(_host_name(name), description["ssh"]["port"])
        acme.wait(_acme_name(name), description["acme_management_url"], folder)
    if failed:
        say(f"Units of target {name} that failed: {', '.join(failed)}")
    keys.write_private(folder / "known_hosts", host.known_hosts(_host_name(name), description["ssh"]["port"]))
    description = describe(name, folder)
    keys.write_private(folder / "target.json", json.dumps(description, indent=1).encode() + b"\n")
    return description


def ssh_options(target: Description, user: str | None = None) -> list[str]:
    """The `ssh` call that opens a shell on a described target. `user`: None is the sudo user."""
    ssh = target["ssh"]
    return [
        *("ssh", "-i", ssh["key"], "-p", str(ssh["port"]), "-o", "IdentitiesOnly=yes"),
        *("-o", f"UserKnownHostsFile={ssh['known_hosts']}", "-o", "StrictHostKeyChecking=yes"),
        f"{user or ssh['user']}@{ssh['host']}",
    ]


def ssh_command(name: str, command: Collection[str], user: str | None = None) -> list[str]:
    """The `ssh` call that opens a shell on a target, or runs a command there; raises TargetError where it can't."""
    if not shutil.which("ssh"):
        raise TargetError("no ssh client on this machine; install it: apt install openssh-client")
    target = status(name)
    if target["state"] != "running":
        raise TargetError(f"target {name} is {target['state']}; `python -m tests.target up --name {name}` starts it")
    return [*ssh_options(target, user), *command]
