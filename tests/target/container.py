"""A target in a container, and what every target has on the Docker engine.

Docker's objects are the truth: ports, system and addresses are read from them, never remembered beside them. So `up`
may be killed anywhere and goes on from what is there; `target.json` is written last and is a view for readers.
`lifecycle` holds the target's lock, and the engine answers, while one of these runs.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.target import acme, host, image, keys, likeness, mirror
from tests.target.console import TargetError, exclusive, say, step
from tests.target.engine import LABEL, DockerError, docker, inspect, pipe
from tests.target.folders import ROOT, Description, NoTarget, free_ports

FOLDER_LABEL, OS_LABEL, PYTHON_LABEL = "slipway.folder", "slipway.os", "slipway.python"
"""Labels of a target's container: the folder with its keys, its system, its Python as JSON."""

PORTS_LABEL = "slipway.ports"
"""Label of a container without published ports, beside a machine: the machine's ports on 127.0.0.1, as JSON."""

HOST_ADDRESS, ACME_ADDRESS = 10, 11
"""Fixed places of the two containers in their network, so that DNS stays right across restarts."""


def up(name: str, folder: Path, os_name: str, start_from: str | None = None) -> Description:
    """Bring a target up, or heal it: started, booted, reachable.

    Of a new one: `os_name` is a key of image.SUITES, `start_from` an image of `keep_image`; None is the bare system.
    """
    host_found, acme_found = own(name, folder)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    network, addresses = _network(name, folder)

    if not _usable(host_found, network, "id_ed25519"):
        remove(host_found)
        _create_host(name, os_name, folder, addresses, start_from)
    if not _usable(acme_found, network, "acme-ca.pem"):
        remove(acme_found)
        _create_acme(name, folder, addresses)
    start(acme_name(name))
    start(host_name(name))
    return _ready(name, folder)


def system(name: str, folder: Path) -> str | None:
    """The system of the target in a container, a key of image.SUITES; None where there is none."""
    found = own(name, folder)[0]
    return str(found["Config"]["Labels"][OS_LABEL]) if found else None


def reboot(name: str, folder: Path, *, hard: bool) -> Description:
    """Reboot a target: /run, /tmp and every process are lost, disk and Pebble stay. `hard`: as by pulling the plug."""
    existing(name, folder)
    if hard:
        host.kill(host_name(name), disk=bool(describe(name, folder)["disk_mb"]))
        docker("start", host_name(name))
    else:
        # The stop signal asks systemd for a clean shutdown; seconds are how long that may take.
        docker("restart", "--time", "60", host_name(name))
    return _ready(name, folder)


def cut(name: str, folder: Path) -> Description:
    """Cut its power: what it had not flushed to its disk is lost. Raises TargetError where it has none of its own."""
    existing(name, folder)
    if not describe(name, folder)["disk_mb"]:
        raise TargetError(f"target {name} has no disk of its own, so its power can't be cut; `up --machine` has one")
    host.kill(host_name(name), disk=True)
    return describe(name, folder)


def keep_image(name: str, folder: Path, tag: str, label: str) -> None:
    """Make an image of a running target's disk, from which others can start, each with an identity of its own.

    `tag`: the image's; `label`: of the image, such as "slipway.provisioned=here".
    """
    existing(name, folder)
    with step(f"image {tag}"):
        left_out = [f"--exclude=./{path}" for path in host.OWN]
        packed = ["exec", host_name(name), "tar", "--create", "--one-file-system", "--numeric-owner", "--xattrs"]
        partial = f"{tag}-partial"  # an image is tagged even where what is sent ends early
        kept = ["import", "--change", f"LABEL {label}", "-", partial]
        pipe([*packed, "--xattrs-include=*", "--directory=/", *left_out, "."], kept)
        docker("tag", partial, tag)
        docker("image", "rm", partial)


def down(name: str, folder: Path) -> list[str]:
    """Remove all that the engine has of a target; returns what was removed, empty where nothing was."""
    own(name, folder)
    containers = _labelled("container", name)
    networks = _labelled("network", name)
    if containers:
        docker("rm", "--force", "--volumes", *containers)
    if networks:
        docker("network", "rm", *networks)
    return [f"{len(containers)} containers"] * bool(containers) + ["network"] * bool(networks)


def describe(name: str, folder: Path) -> Description:
    """A target's description, from what Docker says; "state" is Docker's word. See `lifecycle.status`."""
    found, beside = inspect("container", host_name(name)), inspect("container", acme_name(name))
    if found is None or beside is None:
        raise TargetError(f"target {name} is incomplete; `python -m tests.target up --name {name}` heals it")
    ports, acme_ports, labels = _ports(found), _ports(beside), found["Config"]["Labels"]
    _, addresses = _network(name, folder)
    return {
        "name": name,
        "kind": "container",
        "os": labels[OS_LABEL],
        "state": found["State"]["Status"],
        "container": host_name(name),
        "acme_container": acme_name(name),
        "network": _network_name(name),
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
        **likeness.of(labels),
    }


def host_name(name: str) -> str:
    """Name of a target's host, of its container too where it is one."""
    return f"slipway-{name}"


def acme_name(name: str) -> str:
    """Name of the ACME server's container."""
    return f"slipway-{name}-acme"


def _network_name(name: str) -> str:
    return f"slipway-{name}"


def _labelled(kind: str, name: str | None = None) -> list[str]:
    label = f"label={LABEL}" + (f"={name}" if name else "")
    every = ["--all"] if kind == "container" else []
    return docker(kind, "ls", *every, "--quiet", "--no-trunc", "--filter", label).split()


def own(name: str, folder: Path) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """The two containers where they exist; raises TargetError where they are another clone's."""
    both = inspect("container", host_name(name)), inspect("container", acme_name(name))
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


def existing(name: str, folder: Path) -> None:
    """Raise NoTarget, or TargetError, unless there is a target in a container, with its keys."""
    if own(name, folder)[0] is None:
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


def remove(found: dict[str, Any] | None) -> None:
    """Remove a container, as `inspect` tells it, that can't be used; None is nothing to remove."""
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


def taken() -> set[int]:
    """Ports of every target of this engine, the stopped ones and other clones' included."""
    found = [each for each in (inspect("container", container) for container in _labelled("container")) if each]
    published = {port for container in found for port in _ports(container).values()}
    told = (json.loads(container["Config"]["Labels"].get(PORTS_LABEL, "[]")) for container in found)
    return published.union(*told)


def _options(
    name: str, own_name: str, folder: Path, address: str, aliases: Collection[str], inside: Collection[int]
) -> list[str]:
    ports = zip(free_ports(len(inside), taken()), inside, strict=True)
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


def _bare(os_name: str) -> str:
    """The image of a bare system."""
    with exclusive(ROOT / ".locks" / "images.lock"):
        return image.host_image(os_name)


def _create_host(name: str, os_name: str, folder: Path, addresses: dict[int, str], start_from: str | None) -> None:
    tag = start_from or _bare(os_name)
    host.require_cgroups(tag)
    labels = [f"--label={OS_LABEL}={os_name}", f"--label={PYTHON_LABEL}={json.dumps(mirror.choice(os_name))}"]
    public_key = keys.ssh_key(folder)
    ports = (22, 80, 443)
    options = [*_options(name, host_name(name), folder, addresses[HOST_ADDRESS], host.DOMAINS, ports), *labels]
    dropped, privileged = list(host.DROPPED), False
    while True:
        try:
            privileges = ["--privileged"] if privileged else host.privileges(dropped)
            docker("start", host.create(tag, options, privileges, public_key))
        except DockerError as error:
            remove(inspect("container", host_name(name)))
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
    options = _options(name, acme_name(name), folder, addresses[ACME_ADDRESS], ["acme"], (15000, 8055))
    found = inspect("container", host_name(name)) or {}
    labels = found["Config"]["Labels"]
    served = {}
    if json.loads(labels[PYTHON_LABEL])["downloads_json_url"]:
        served = mirror.files(labels[OS_LABEL], _bare(labels[OS_LABEL]), ROOT / ".cache")
    acme.create(tag, options, addresses[HOST_ADDRESS], folder, served)


def start(container: str) -> None:
    """Start a container unless it runs."""
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
        failed = host.wait(host_name(name), description["ssh"]["port"])
        acme.wait(acme_name(name), description["acme_management_url"], folder)
    if failed:
        say(f"Units of target {name} that failed: {', '.join(failed)}")
    keys.write_private(folder / "known_hosts", host.known_hosts(host_name(name), description["ssh"]["port"]))
    description = describe(name, folder)
    keys.write_private(folder / "target.json", json.dumps(description, indent=1).encode() + b"\n")
    return description
