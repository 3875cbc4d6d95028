"""Run what tries.py tries, as root without a sandbox and then from inside an app and a build; tell what it came to.

    python3 -m tests.audit.onhost.stage SERVICE SITE

SERVICE is the app's, SITE its site's name. Meanwhile a stand-in for another app is there: a user, files, a service with
sockets, a journal. It prints one line, `STAGED` and a JSON object: place → name of the attempt → "done", or what it met
instead; the places are "root", "app" and "build". All that was made for it is removed again.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NoReturn

from tests.audit.onhost import attempts, tries
from tests.audit.onhost.attempts import Attempt, Neighbour
from tests.audit.onhost.builder import Builder, builder, wanted

NAME = "slipway-audit"
"""Of the neighbour, and of all that is made here."""
SEGMENTS = {"neighbour": 0x51A0D17A, "app": 0x51A0D17B, "build": 0x51A0D17C}
"""Keys of shared memories: the neighbour's, and those that places may leave behind."""
PLACES = {place: f"{NAME}-{place}.service" for place in ("root", "app", "build")}
"""Place → its unit, unless it is one of Slipway's builds."""
FOLDER = Path("/run/slipway-audit-tries")
"""What the places read: programs, and what to try."""
LATER = "--property=RuntimeMaxSec=600"
"""Units end by themselves, too."""
LEFT_ABOUT = ("/dev/mqueue", "/dev/shm", "/tmp", "/var/tmp")
"""Where the neighbour leaves a file that all may read."""
TOPS = (
    "/etc/", "/run/", "/run/log/journal/*.", "/run/systemd/journal.", "/srv/", "/var/cache/slipway/", "/var/lib/",
    "/var/log/journal/*.",
)  # fmt: skip
"""What its folders' paths begin with, before its name."""
NOT_SEEN = "nobody sees it"
"""An attempt that met no error, and had no effect outside of its sandbox."""
SERVICES = {"nginx": "nginx", "sshd": "ssh", "the journal": "systemd-journald"}
"""What this host's services are called → their units."""
PROCESS = ("Exec", "Restart", "Type=", "NotifyAccess=")
"""Lines of a unit that say what runs, not as whom and shut off from what."""

Tried = Mapping[str, Attempt]
"""Name of an attempt → what it is."""
Told = dict[str, object]
"""What tries.py answers."""


def run(*words: str, check: bool = True) -> str:
    """What a command prints."""
    return subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=check, timeout=200
    ).stdout


def write(path: str, mode: int, owner: str, text: str = "of the neighbour's\n") -> None:
    """Make a file."""
    file = Path(path)
    file.touch(0o600)
    file.write_text(text)
    shutil.chown(file, owner, NAME)
    file.chmod(mode)


@contextmanager
def neighbour(app: str) -> Iterator[Neighbour]:
    """A neighbour with everything that an app of Slipway's has, beside what every program of a host may leave about.

    + app: whose journal it has one like
    """
    with ExitStack() as stack:
        stack.callback(forget_neighbour)
        forget_neighbour()
        run("useradd", "--system", "--no-create-home", "--shell=/usr/sbin/nologin", NAME)
        made = Neighbour(NAME, pwd.getpwnam(NAME).pw_uid, 0, {}, SEGMENTS["neighbour"])
        for what, (folder, mode, owner) in made.folders.items():
            Path(folder).mkdir(parents=True)
            shutil.chown(folder, owner, NAME)
            Path(folder).chmod(mode)
            write(f"{folder}/file", 0o640 if owner == "root" else 0o600, owner, f"{what} of the neighbour's\n")
        for folder in LEFT_ABOUT:
            write(f"{folder}/{NAME}", 0o644, NAME, "" if "mqueue" in folder else "of the neighbour's\n")
        tries.called(tries.libc.shmget(made.segment, 4096, tries.IPC_CREAT | 0o666))
        for file in map(Path, attempts.there(f"/etc/systemd/system/systemd-journald*@{app}.*.d/*.conf")):
            beside = Path("/run/systemd/system", file.parent.name.replace(f"@{app}.", f"@{NAME}."))
            beside.mkdir(parents=True, exist_ok=True)
            (beside / file.name).write_text(re.sub(rf"\b{re.escape(app)}\b", NAME, file.read_text()))
        run("systemctl", "daemon-reload")
        own = [f"--property={each}=" + NAME for each in ("User", "Group", "RuntimeDirectory", "LogNamespace")]
        program = ["python3", str(FOLDER / "neighbour.py"), f"/run/{NAME}", NAME]
        run("systemd-run", "--quiet", "--collect", f"--unit={NAME}", *own, "--property=NotifyAccess=all", LATER,
            "--setenv=SECRET=of the neighbour's", *program)  # fmt: skip
        ports = Path("/run", NAME, "ports")
        waited(ports.exists)
        waited(lambda: bool(attempts.there(f"/var/log/journal/*.{NAME}/system.journal")))
        yield Neighbour(NAME, made.uid, attempts.main_pid(NAME), json.loads(ports.read_text()), made.segment)


def forget_neighbour() -> None:
    """Remove it, and what a killed run left of it."""
    # Its journal goes on for a while otherwise.
    journal = [f"systemd-journald@{NAME}.{kind}" for kind in ("socket", "service")]
    for unit in (*PLACES.values(), f"{NAME}.service", f"systemd-journald-varlink@{NAME}.socket", *journal):
        run("systemctl", "stop", unit, check=False)
    run("systemctl", "reset-failed", f"*{NAME}*", check=False)
    for each in SEGMENTS.values():
        run("ipcrm", "-M", str(each), check=False)
    for folder in LEFT_ABOUT:
        Path(folder, NAME).unlink(missing_ok=True)
    for top in TOPS:
        for folder in attempts.there(top + NAME):
            shutil.rmtree(folder)
    for folder in attempts.there(f"/run/systemd/system/systemd-journald*@{NAME}.*.d"):
        shutil.rmtree(folder)
        run("systemctl", "daemon-reload")
    run("userdel", NAME, check=False)


def waited(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is true; an error where it isn't within that time."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError("the neighbour isn't there")
        time.sleep(0.1)


@contextmanager
def surroundings() -> Iterator[None]:
    """What is on many hosts and may not be here yet: a cloud's address, and a lock of the daily updates."""
    with ExitStack() as stack:
        FOLDER.mkdir(exist_ok=True)
        stack.callback(shutil.rmtree, FOLDER)
        for each in ("tries", "neighbour"):
            shutil.copy(Path(__file__).with_name(f"{each}.py"), FOLDER)
            (FOLDER / f"{each}.py").chmod(0o644)
        FOLDER.chmod(0o755)
        address = [f"{attempts.LINK_LOCAL}/32", "dev", "lo"]
        run("ip", "address", "replace", *address)
        stack.callback(run, "ip", "address", "del", *address, check=False)
        daily = Path("/var/lib/apt/daily_lock")
        if daily.parent.is_dir() and not daily.exists():  # as apt's own script makes it
            daily.touch(0o644)
            stack.callback(daily.unlink)
        for name in ("config.dat", "templates.dat"):
            # As debconf's own settings say; the umask of who used it last may have taken some of that.
            file = Path("/var/cache/debconf", name)
            stack.callback(file.chmod, file.stat().st_mode & 0o7777)
            file.chmod(0o644)
        yield


def given(place: str, mark: str, tried: Tried) -> Path:
    """Write down what to try from a place; returns the file."""
    path = FOLDER / f"{place}.json"
    path.write_text(json.dumps({"mark": mark, "tries": tried}))
    path.chmod(0o644)
    return path


def answered(printed: str) -> Told:
    """What tries.py said; empty where it said nothing."""
    lines = [line for line in printed.splitlines() if line.startswith(tries.ANSWER)]
    found: Told = json.loads(lines[0].removeprefix(tries.ANSWER)) if lines else {}
    return found


def in_unit(lines: list[str], file: Path, place: str) -> str:
    """Run tries.py in a unit with these lines; returns what it printed."""
    unit = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={PLACES[place]}", LATER]
    unit += [f"--property={line}" for line in lines]
    return run(*unit, "python3", str(FOLDER / "tries.py"), str(file), place, check=False)


def as_build(made: Builder, file: Path) -> str:
    """Run tries.py as a build is run; returns what it printed."""
    for each in (FOLDER / "tries.py", file):
        shutil.copy(each, made.work)
    return made.run(["python3", "tries.py", file.name, "build"])


def sandbox(service: str) -> list[str]:
    """The lines of a unit file that say as whom a service runs, and shut off from what."""
    text = run("systemctl", "cat", service).replace("\\\n", " ")
    section, lines = "", []
    for line in text.splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and "=" in line and not line.startswith(("#", *PROCESS)):
            lines.append(line)
    return lines


def effect(attempt: Attempt, place: str, mark: str, made: Neighbour, told: object) -> object:
    """What an attempt that met no error came to, as it is seen from outside; what it left is removed."""
    name = f".{mark}-{place}"
    match attempt:
        case ["search", *_] if isinstance(told, list):
            there = [removed(each) if each.endswith(name) else Path(each).exists() for each in told]
            return "done" if any(there) else NOT_SEEN
        case ["make", folder]:
            return "done" if removed(f"{folder}/{name}") else NOT_SEEN
        case ["bind", folder]:
            return "done" if removed(f"{folder}/{name}.sock") else NOT_SEEN
        case ["leave_segment", int(number)]:
            left = any(line.split()[0] == str(number) for line in Path("/proc/sysvipc/shm").read_text().splitlines())
            run("ipcrm", "-M", str(number), check=False)
            return "done" if left else NOT_SEEN
        case ["notify", _]:
            return "done" if name in run("systemctl", "show", "--property=StatusText", made.name) else NOT_SEEN
        case ["log" | "syslog", path, program]:
            where = [f"--namespace={made.name}"] if made.name in str(path) else []
            run("journalctl", "--sync", *where)
            shown = run("journalctl", *where, "-t", str(program), "--since=-10min", "-o", "cat", check=False)
            return "done" if name in shown else NOT_SEEN
    return told


def removed(path: str) -> bool:
    """Whether something was there, which is gone by now."""
    try:
        Path(path).unlink()
    except FileNotFoundError:
        return False
    return True


def judged(tried: Tried, place: str, mark: str, made: Neighbour, told: Mapping[str, object]) -> Told:
    """What all attempts of a place came to."""
    found: Told = {}
    for name, attempt in tried.items():
        if name in told:
            met = told[name] == "done" or isinstance(told[name], list)
            found[name] = effect(attempt, place, mark, made, told[name]) if met else told[name]
    return found


def to_try(
    service: str, site: str, lines: list[str], made: Neighbour, builds: list[str] | None
) -> dict[str, dict[str, Attempt]]:
    """Place → what to try there.

    + site: of the app
    + lines: of the app's sandbox
    + builds: folders that a build may write to; None where Slipway isn't, and nothing is anything's by design
    """
    app = name_of(service)
    others = {whose: attempts.main_pid(f"{unit}.service") for whose, unit in SERVICES.items()}
    common = attempts.reads(made) | attempts.holds(made) | attempts.reaches(made, app) | attempts.fakes(made)
    all_ask = attempts.asks_everybody(made)
    places = {
        "app": common | attempts.ends(made, others) | attempts.fills([f"/var/lib/{app}"], SEGMENTS["app"]),
        "build": common | attempts.ends(made, others | {"its own app": attempts.main_pid(service)}) | all_ask
        | attempts.fills(builds or [], SEGMENTS["build"]),
    }  # fmt: skip
    # By design an app may ask what listens on this host, unless its settings take the network.
    if builds is None or "PrivateNetwork=yes" in lines:
        places["app"] |= all_ask
    if builds is not None:
        places["app"] |= attempts.of_the_release(app)
        places["build"] |= attempts.of_the_app(app)
    for tried in places.values():  # at last, since services are busy for a moment then
        tried |= attempts.crowds_out(site)
    return places | {"root": places["app"] | places["build"]}


def name_of(service: str) -> str:
    """The app of a service."""
    return service.partition("@")[0].removesuffix(".service")


@contextmanager
def swept() -> Iterator[None]:
    """Whatever attempts leave is gone in the end, those of a killed run's as well."""
    try:
        yield
    finally:
        for unit in PLACES.values():
            run("systemctl", "stop", unit, check=False)
        shut = ["(", "-path", "/proc", "-o", "-path", "/sys", ")", "-prune", "-o"]
        run("find", "/", *shut, "-name", f".{NAME}-*", "-exec", "rm", "-f", "{}", "+", check=False)


def staged(service: str, site: str) -> dict[str, Told]:
    """Everything: place → attempt → what it came to."""
    app, mark, found = name_of(service), f"{NAME}-{secrets.token_hex(4)}", dict[str, Told]()
    provisioned = "@" in service
    lines = wanted(app)["sandbox"] if provisioned else sandbox(service)
    with surroundings(), neighbour(app) as made, ExitStack() as stack:
        build = stack.enter_context(builder(app)) if provisioned else None
        tried = to_try(service, site, lines, made, [str(build.folder), f"/var/cache/slipway/{app}"] if build else None)
        stack.enter_context(swept())
        for place in PLACES:
            file = given(place, mark, tried[place])
            if place == "build" and build:
                printed = as_build(build, file)
            else:
                printed = in_unit(lines if place == "app" else [], file, place)
            found[place] = judged(tried[place], place, mark, made, answered(printed))
    return found


def stop(*_: object) -> NoReturn:
    """End as if by ourselves, so that all is removed."""
    sys.exit(143)


def main() -> None:
    """Print what everything came to."""
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, stop)
    os.umask(0o022)
    print(f"\nSTAGED {json.dumps(staged(*sys.argv[1:]))}")


if __name__ == "__main__":
    main()
