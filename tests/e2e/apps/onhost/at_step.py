"""Wait until a run of an app is in a step, and do something to it: APP STEP ACTION.

STEP is one of a release ("fetch" … "commit"; "switched": nginx names the new release; "let go": the old one was let go)
or of a rollback ("schema" … "commit"). ACTION is "main" (SIGKILL for the program alone), "all" (SIGKILL for all of its
unit) or "hold" (the program is stopped where it is; `at_step.py APP go PID` lets it go on).
Prints as JSON the process, the attempt and the steps that it had done; "missed" if the run never was in that step.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PATIENCE = 60
"""Seconds to wait for the step."""
RELEASE = ("fetch", "build", "check", "migrate", "start", "prove", "switch", "watch", "commit")
ROLLBACK = ("schema", "start", "prove", "switch", "commit")
LONG = {"check": 0.2, "prove": 0.2, "watch": 0.5}
"""Steps of a release that take their time: seconds into one at which it is met. The others are met once they have done
something."""

app, step, action = sys.argv[1:4]
records, current = Path(f"/var/lib/slipway/{app}"), Path(f"/srv/{app}/current")
upstream = Path(f"/etc/nginx/upstreams/{app}.conf")
known = set(records.glob("*.json")) if records.is_dir() else set()


def attempt() -> dict[str, Any]:
    """The record of the run; empty before it has one."""
    for path in set(records.glob("*.json")) - known:
        with contextlib.suppress(OSError, ValueError):
            read: dict[str, Any] = json.loads(path.read_text())
            return read
    return {}


def met(record: dict[str, Any]) -> bool:
    """Whether the run is in the step, and has begun to do something there."""
    release = str(record.get("to") or record["id"])
    if step == "switched":
        return release in upstream.read_text()
    if step == "let go":
        return current.readlink().name == release and bool(left(record))
    steps = ROLLBACK if record.get("kind") == "rollback" else RELEASE
    if len(record.get("steps", {})) != steps.index(step):
        return False
    if record.get("kind") == "rollback":
        return step != "commit" or current.readlink().name == release
    match step:
        case "fetch":
            return Path(f"/srv/{app}/releases/{release}").is_dir()
        case "build":
            return Path(f"/srv/{app}/releases/{release}/.venv").exists()
        case "migrate":
            return any(Path("/sys/fs/cgroup").glob(f"**/{app}-migrate.service/cgroup.procs"))
        case "start":
            return Path(f"/run/{app}/{release}.sock").exists()
        case "commit":
            return current.readlink().name == release
    return True


def runner() -> int:
    """Process of the run that holds the lock."""
    found = re.match(r"(?:release|rollback) by .*, process (\d+)", Path(f"/run/slipway/{app}.lock").read_text())
    return int(found[1]) if found else 0


def left(record: dict[str, Any]) -> object:
    """When the release from before was let go, if it was."""
    path = records / f"{record.get('previous')}.json"
    return json.loads(path.read_text()).get("left") if path.exists() else None


def main() -> None:
    """Wait, act, tell."""
    if step == "go":
        os.kill(int(action), signal.SIGCONT)
        print("{}")
        return
    before = current.readlink().name
    with contextlib.suppress(PermissionError):
        os.nice(-15)  # on a busy machine the step would be over before we get to act
    Path("/run/at-step").touch()
    until, record, process = time.monotonic() + PATIENCE, {}, 0
    while time.monotonic() < until:
        record = attempt()
        process = process or (runner() if record else 0)
        with contextlib.suppress(OSError, ValueError):
            if record and met(record | {"previous": before}):
                break
        if record.get("state") in {"good", "failed"} and step != "let go":
            break
    else:
        record = {}
    if not record or record.get("state") == "failed":
        print(json.dumps({"missed": True, "record": record}))
        return
    if step in LONG and record.get("kind") != "rollback":
        time.sleep(LONG[step])
    if process:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL if action == "main" else signal.SIGSTOP)
    if action == "all":
        unit = f"{app}-release.service"
        subprocess.run(["systemctl", "kill", "--signal=KILL", "--kill-whom=all", unit], check=False)
    record = attempt()
    print(json.dumps({"missed": not process, "process": process, "id": record["id"], "steps": list(record["steps"])}))


main()
