"""Print as JSON what is on this host of an app beyond its serving release and those kept to go back to: APP."""

import json
import pwd
import re
import subprocess
import sys
from pathlib import Path

PLACES = ("/etc/nginx", "/etc/systemd", "/var/lib/slipway", "/var/cache/slipway/sources", "/opt/slipway/bin")


def output(*command: str) -> str:
    """What a command prints, however it ends."""
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def units(app: str, serving: str | None) -> list[str]:
    """Units that should not be there, or not be so."""
    ours = {f"{app}@{serving}.service", f"{app}@{serving}.socket"} if serving else set()
    found = []
    states = {}
    listing = output(
        "systemctl", "list-units", "--all", "--plain", "--no-legend", f"{app}@*", f"{app}-check.*", f"{app}-migrate.*"
    )
    for line in listing.splitlines():
        name, _, active, sub, *_ = line.split()
        states[name] = active
        if name not in ours and not name.endswith((".slice", ".mount")):
            found.append(f"unit {name} is {active} ({sub})")
    for name in ours:
        if states.get(name) != "active":
            found.append(f"{name} is {states.get(name, 'not loaded')}")
        if (enabled := output("systemctl", "is-enabled", name)) != "enabled":
            found.append(f"{name} is {enabled}")
    files = Path("/etc/systemd/system").rglob(f"*{app}@*")
    return found + [f"unit file {path}" for path in files if path.name not in ours]


def folders(app: str, serving: str | None) -> list[str]:
    """Folders, environments and sockets that belong to no release."""
    records = Path(f"/var/lib/slipway/{app}").glob("*.json")
    good = {path.stem for path in records if json.loads(path.read_text()).get("state") == "good"}
    there = {path.name for path in Path(f"/srv/{app}/releases").iterdir()}
    environments = {path.stem for path in Path(f"/etc/{app}/releases").iterdir()}
    return [
        *(f"folder {name} without a good record" for name in there - good),
        *(f"environment of {name}, which isn't there" for name in environments - there),
        *(f"no environment of {name}" for name in there - environments),
        *(f"socket {path}" for path in Path(f"/run/{app}").iterdir() if path.stem != serving),
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
        if user == "slipway-build" or words[1:4] == ["/opt/slipway/bin/slipway-release", "deploy", app]:
            found.append(f"process {process.name} of {user}: {' '.join(words)}")
    return found


def main(app: str) -> None:
    """Print the list."""
    current = Path(f"/srv/{app}/current")
    serving = current.readlink().name if current.is_symlink() else None
    found = units(app, serving) + folders(app, serving) + unfinished(app) + processes(app)
    if serving and f"/run/{app}/{serving}.sock;" not in Path(f"/etc/nginx/upstreams/{app}.conf").read_text():
        found.append(f"nginx's upstream isn't {serving}")
    print(json.dumps(sorted(set(found))))


main(sys.argv[1])
