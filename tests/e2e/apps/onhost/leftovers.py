"""Print as JSON what is on this host of an app beyond its serving release and those kept to go back to: APP.

A release that left may be warm: it runs until its timer ends it, and not after a reboot. A drain or a run that is just
ending is waited for.
"""

import json
import pwd
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PLACES = ("/etc/nginx", "/etc/systemd", "/var/lib/slipway", "/var/cache/slipway/sources", "/opt/slipway/bin")
PROGRAM = "/opt/slipway/bin/slipway"
INSTALLED, WARM = Path("/etc/systemd/system"), Path("/run/systemd/system")
HELPERS = ("check", "schema", "hook", "migrate", "release")
PATIENCE = 15
"""Seconds for what is just ending, counted from the end of the last drain."""


def output(*command: str) -> str:
    """What a command prints, however it ends."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def loaded(*patterns: str) -> dict[str, tuple[str, str]]:
    """Units that systemd knows: name → state, and in more detail."""
    listing = output("systemctl", "list-units", "--all", "--plain", "--no-legend", *patterns)
    rows = (line.split() for line in listing.splitlines())
    return {name: (active, sub) for name, _, active, sub, *_ in rows if not name.endswith((".slice", ".mount"))}


def read(path: Path) -> dict[str, Any]:
    """A record; empty where there is none."""
    value: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return value


def warm(app: str, serving: str | None) -> set[str]:
    """Releases that left and may run on: went live, with units that a reboot ends, and with what will stop them."""
    leaving = loaded(f"{app}-drain-*", f"{app}-retire-*")
    found = set()
    for release in {path.stem.partition("@")[2] for path in WARM.glob(f"{app}@*")} - {serving}:
        record = read(Path(f"/var/lib/slipway/{app}/{release}.json"))
        ends = any(name.rpartition(".")[0].endswith(release) for name in leaving)
        if ends and record.get("state") == "good" and record.get("warm_until", 0) > time.time():
            found.add(release)
    return found


def units(app: str, serving: str | None, allowed: set[str]) -> list[str]:
    """Units that should not be there, or not be so."""
    found, states = [], loaded(f"{app}@*", *(f"{app}-{what}.*" for what in HELPERS))
    for name, (active, sub) in states.items():
        release = name.partition("@")[2].rpartition(".")[0]
        if not release or release not in {serving, *allowed}:
            found.append(f"unit {name} is {active} ({sub})")
    wanted = {serving: ("active", "enabled", INSTALLED)} if serving else {}
    for release, (state, enabled, folder) in (dict.fromkeys(allowed, ("active", "disabled", WARM)) | wanted).items():
        for kind in ("socket", "service"):
            name = f"{app}@{release}.{kind}"
            if states.get(name, ("not loaded",))[0] != state:
                found.append(f"{name} is {states.get(name, ('not loaded',))[0]}")
            if (told := output("systemctl", "is-enabled", name)) != enabled:
                found.append(f"{name} is {told}")
            elsewhere = WARM if folder == INSTALLED else INSTALLED
            found += [f"unit file {path}" for path in elsewhere.rglob(name)]
    files = [path for folder in (INSTALLED, WARM) for path in folder.rglob(f"*{app}@*")]
    found += [f"unit file {path}" for path in files if path.stem.partition("@")[2] not in {serving, *allowed}]
    for name in loaded(f"{app}-drain-*", f"{app}-retire-*"):
        release = re.sub(rf"{app}-(drain|retire)-|\.\w+$", "", name)
        if release not in allowed:
            found.append(f"unit {name} of a release that isn't warm")
    return found


def folders(app: str, serving: str | None, allowed: set[str]) -> list[str]:
    """Folders, environments and sockets that belong to no release, and requests that nobody took."""
    records = Path(f"/var/lib/slipway/{app}").glob("*.json")
    good = {path.stem for path in records if read(path).get("state") == "good"}
    there = {path.name for path in Path(f"/srv/{app}/releases").iterdir()}
    environments = {path.stem for path in Path(f"/etc/{app}/releases").iterdir()}
    sockets = Path(f"/run/{app}").iterdir()
    return [
        *(f"folder {name} without a good record" for name in there - good),
        *(f"environment of {name}, which isn't there" for name in environments - there),
        *(f"no environment of {name}" for name in there - environments),
        *(f"socket {path}" for path in sockets if path.stem not in {serving, *allowed}),
        *(f"request {path}" for path in Path(f"/run/slipway/{app}").glob("*/request.json")),
    ]


def unfinished(app: str) -> list[str]:
    """Files that were being written when something died."""
    paths = [path for place in (f"/srv/{app}", f"/etc/{app}", *PLACES) for path in Path(place).rglob("*")]
    return [
        str(path) for path in paths if path.name.endswith(".partial") or re.fullmatch(r"\.slipway\.\w{6}", path.name)
    ]


def processes(app: str) -> list[str]:
    """Processes of a build or a release that still run."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
            user = pwd.getpwuid(process.stat().st_uid).pw_name
        except OSError:
            continue
        runs = words[1:2] == [PROGRAM] and app in words[2:] and words[2] in {"release", "rollback", "run"}
        if user == f"_{app}" or runs:
            found.append(f"process {process.name} of {user}: {' '.join(words)}")
    return found


def look(app: str) -> list[str]:
    """All of it; a drain after which nothing stays warm, too."""
    current = Path(f"/srv/{app}/current")
    serving = current.readlink().name if current.is_symlink() else None
    allowed = warm(app, serving)
    found = units(app, serving, allowed) + folders(app, serving, allowed) + unfinished(app) + processes(app)
    if serving and f"/run/{app}/{serving}.sock;" not in Path(f"/etc/nginx/upstreams/{app}.conf").read_text():
        found.append(f"nginx's upstream isn't {serving}")
    if not read(Path(f"/etc/{app}/release.json")).get("keep_warm"):
        found += [f"{release} drains" for release in allowed]
    return found


def main(app: str) -> None:
    """Print the list."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            found = look(app)
        except FileNotFoundError as gone:  # while it was looked at
            found = [f"{gone.filename} is gone"]
        if not found or time.monotonic() > until:
            break
        if any(each.endswith(" drains") for each in found):
            until = time.monotonic() + PATIENCE
        time.sleep(0.2)
    print(json.dumps(sorted(set(found))))


main(sys.argv[1])
