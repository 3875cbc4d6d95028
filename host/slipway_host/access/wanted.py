"""Validate a change of access with the programs that will use it, and make it."""

from __future__ import annotations

import os
from pathlib import Path

from slipway_host.access import before, sshd
from slipway_host.names import FIREWALL, SHELL, SSHD_PROGRAM

TYPE_CHECKING = False
if TYPE_CHECKING:
    import pwd
    from collections.abc import Iterable, Mapping, Sequence

    from slipway_host.access.protocol import Ways
    from slipway_host.system import System

MODULUS_BITS = 3071  # as sshd's moduli file counts them: of a modulus of 3072 bits


# ── validated ────────────────────────────────────────────────────────────────────────────────────────────────────


def validate(system: System, request: Ways) -> None:
    """Let the programs check the wanted files. Nothing is changed. Raises Failed if one refuses."""
    import tempfile

    for each in request["files"]:
        path, content = Path(each["path"]), each["content"]
        if content is None:
            continue
        if path.parent.name == system.layout.sudoers.name:
            with tempfile.NamedTemporaryFile("w", dir=system.layout.access, encoding="utf-8") as file:
                file.write(content)
                file.flush()
                system.run("visudo", "-cqf", file.name)
        elif each["path"] == request["drop_in"]:
            validate_sshd(system, content)
        elif path.suffix == ".nft":
            system.run("nft", "--check", "-f", "-", said=content)


def validate_sshd(system: System, text: str) -> None:
    """Let sshd check its configuration with `text` in front of it."""
    import tempfile

    with tempfile.TemporaryDirectory(dir=system.layout.access) as folder:
        ours, main = Path(folder, "ours"), Path(folder, "main")
        ours.write_text(text, "utf-8")
        sshd.private_folder(system)
        # In an included file, so that a Match block at its end ends there.
        main.write_bytes(f"Include {ours}\n".encode() + system.layout.sshd_config.read_bytes())
        done = system.run(SSHD_PROGRAM, "-t", "-f", str(main), check=False)
        if done.code != 0:
            raise sshd.Refused(f"sshd refuses the configuration:\n{done.output.strip().replace(f'{folder}/', '')}")


def check_sshd(system: System, wanted: Iterable[Sequence[str]], drop_in: str) -> None:
    """Raise Refused unless sshd's effective configuration has these values.

    + wanted: pairs of a keyword and a value
    """
    now, config = sshd.effective(system), system.layout.sshd_config
    for keyword, value in wanted:
        if value not in now.get(keyword, []):
            told = ", ".join(now.get(keyword, ["nothing"]))
            raise sshd.Refused(
                f"sshd's {keyword} is {told} instead of {value}: a file in {config.parent} sets it before {drop_in}; "
                f"`grep -ri {keyword} {config}*` finds it"
            )


# ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def bits(system: System, path: Path) -> int:
    """Bits of a host key; 0 if there is none, or none that can be read."""
    done = system.run("ssh-keygen", "-lf", str(path), check=False, raw=True)
    first = done.output.split(maxsplit=1)[:1]
    return int(first[0]) if done.code == 0 and first and first[0].isdigit() else 0


def host_keys(system: System, wanted: Mapping[str, int]) -> dict[str, Path]:
    """Make a new host key beside each one that has too few bits. Returns kind → path of the new key."""
    made: dict[str, Path] = {}
    for kind, least in wanted.items():
        place = system.layout.host_key(kind)
        if bits(system, place) >= least:
            continue
        path = system.layout.access / place.name
        for old in pair(path):
            old.unlink(missing_ok=True)
        comment = f"root@{os.uname().nodename}"
        system.run("ssh-keygen", "-q", "-t", kind, "-b", str(least), "-N", "", "-C", comment, "-f", str(path))
        made[kind] = path
    return made


def pair(key: Path) -> tuple[Path, Path]:
    """Paths of a private key and its public one."""
    return key, key.with_suffix(".pub")


def long_moduli(system: System) -> str:
    """The package's moduli without those that are too short."""
    path = system.layout.moduli
    lines = path.read_text("utf-8", errors="replace").splitlines(keepends=True) if path.is_file() else []
    return "".join(line for line in lines if line.startswith("#") or _modulus_bits(line) >= MODULUS_BITS)


def _modulus_bits(line: str) -> int:
    """Bits of a modulus, from its line; 0 for other lines."""
    size = line.split()[4:5]
    return int(size[0]) if size and size[0].isdecimal() else 0


# ── made ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def touched(system: System, request: Ways, made: Iterable[str]) -> list[Path]:
    """The files that a change writes or removes. `made`: kinds of its new host keys."""
    found = [Path(each["path"]) for each in request["files"]]
    found += [path for kind in made for path in pair(system.layout.host_key(kind))]
    return found + ([Path(request["moduli"])] if request["moduli"] else [])


def account(system: System, name: str) -> pwd.struct_passwd:
    """Make a user who can log in with a key and with nothing else. What exists of it stays."""
    import pwd

    try:
        found = pwd.getpwnam(name)
    except KeyError:
        system.run("useradd", "--create-home", "--shell", SHELL, "--password", "*", name)
        found = pwd.getpwnam(name)
    if found.pw_shell.endswith(("/nologin", "/false")):
        system.run("usermod", "--shell", SHELL, name)
    return found


def make(system: System, request: Ways, made: Mapping[str, Path], say: sshd.Say) -> None:
    """Make the change. `made`: the new host keys."""
    owner = account(system, request["account"]) if request["account"] else None
    for each in request["files"]:
        path, content = Path(each["path"]), each["content"]
        if content is None:
            path.unlink(missing_ok=True)
            continue
        owned = each["owned"]
        if owned and not owner:
            raise sshd.Refused(f"{path} should belong to an account, but the request names none")
        uid, gid = (owner.pw_uid, owner.pw_gid) if owned and owner else (0, 0)
        if not path.parent.is_dir():
            path.parent.mkdir(mode=0o700 if owned else 0o755)
            os.chown(path.parent, uid, gid)
        before.put(system, path, content.encode(), int(each["mode"], 8), uid, gid)
    if before.units_among(system, (each["path"] for each in request["files"])):
        system.run("systemctl", "daemon-reload")
    if request["firewall"] == "load":
        system.run("systemctl", "reload-or-restart", FIREWALL)
    elif request["firewall"] == "remove":
        system.run("systemctl", "stop", FIREWALL, check=False)
        before.load(system, None)
    for kind, path in made.items():
        for new, place in zip(pair(path), pair(system.layout.host_key(kind)), strict=True):
            before.put(system, place, new.read_bytes(), 0o600 if new == path else 0o644, 0, 0)
            new.unlink()
    if request["moduli"]:
        before.put(system, Path(request["moduli"]), long_moduli(system).encode(), 0o644, 0, 0)
    if request["ssh"]:
        check_sshd(system, request["options"], request["drop_in"])
        sshd.reload(system, say)
