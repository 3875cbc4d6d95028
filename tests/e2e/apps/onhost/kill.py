"""Release with another commit, as a run with new code would, and kill the release program: APP STEP COMMIT.

STEP is one of its steps, "drain" (the end of the last) or "never". Prints exit code, output and record as JSON.
"""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

PAUSE = {"check": 0.3, "migrate": 0.3, "prove": 0.3, "drain": 0.2}
"""Seconds into a step at which it is killed; the others are killed as soon as they have done something."""

app, step, commit = sys.argv[1:4]
releases, current = Path(f"/srv/{app}/releases"), Path(f"/srv/{app}/current")
before, serving = set(releases.iterdir()), current.readlink()


def new() -> Path:
    """The folder of the new release; raises StopIteration where there is none."""
    return next(iter(set(releases.iterdir()) - before))


def record() -> dict[str, Any]:
    """The record of the new release."""
    read: dict[str, Any] = json.loads(Path(f"/var/lib/slipway/{app}/{new().name}.json").read_text())
    return read


def reached() -> bool:
    """Whether the release is in the step."""
    try:
        if step == "fetch":
            return new().is_dir()
        if step == "build":
            return (new() / ".venv").exists()
        if step == "start":
            return Path(f"/run/{app}/{new().name}.sock").exists()
        if step == "switch":
            return new().name in Path(f"/etc/nginx/upstreams/{app}.conf").read_text()
        if step == "commit":
            return current.readlink() != serving
        if step == "drain":
            return current.readlink() != serving and record().get("state") == "good"
        return len(record().get("steps", {})) == {"check": 2, "migrate": 3, "prove": 5}.get(step, 99)
    except (OSError, StopIteration):
        return False


wanted = Path(f"/etc/{app}/release.json")
value = json.loads(wanted.read_text())
value["inputs"]["source"] = value["source"]["commit"] = commit
wanted.write_text(json.dumps(value))
archive = f"/var/cache/slipway/sources/{app}.{commit}.tar.gz"
subprocess.run(
    ["tar", "-C", str(current), "--exclude=.venv", "--exclude=__pycache__", "-czf", archive, "."], check=True
)
log, told = Path("/run/killed.log"), {}
with log.open("w") as sink:
    process = subprocess.Popen(
        ["/opt/slipway/bin/slipway-release", "deploy", app], stdout=sink, stderr=sink, start_new_session=True
    )
    while process.poll() is None and not reached():
        pass
    if step != "never":
        time.sleep(PAUSE.get(step, 0))
        process.kill()
    process.wait()
with contextlib.suppress(OSError, StopIteration):
    told = record()
print(json.dumps({"code": process.returncode, "output": log.read_text(), "record": told}))
