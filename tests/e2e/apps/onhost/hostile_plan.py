"""Plan a hostile commit of an app, and print as JSON what that told, the memory and the seconds it took: APP COMMANDS.

COMMANDS stage the commit, in a repository of the source that serves; or make it, and name it in .git/hostile.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROGRAM = "/opt/slipway/bin/slipway"
FOLDER = Path("/root/hostile")


def limits() -> None:
    """What reads without end is ended before it takes the machine's memory."""
    resource.setrlimit(resource.RLIMIT_AS, (2**31, 2**31))


def main(app: str, commands: str) -> None:
    """Make the commit, and let the app's next release be planned from it."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.copytree(f"/srv/{app}/current/", FOLDER, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
    staged = "set -e; git init -q; git config user.name x; git config user.email x@example.com; git add --all; "
    staged += f"git commit -qm first; {commands}; "
    staged += "[ -e .git/hostile ] || { git commit -qm hostile; git rev-parse HEAD >.git/hostile; }"
    subprocess.run(["sh", "-c", staged], cwd=FOLDER, check=True, stdout=subprocess.DEVNULL)
    commit = (FOLDER / ".git/hostile").read_text().strip()
    wanted = json.loads(Path(f"/etc/{app}/release.json").read_text())
    wanted["source"] |= {"kind": "git", "url": f"file://{FOLDER}", "ssh": "", "commit": commit}
    began = time.monotonic()
    with tempfile.TemporaryFile() as request, tempfile.TemporaryFile() as told:
        request.write(json.dumps({"wanted": wanted, "placeholders": {}}).encode())
        request.seek(0)
        process = subprocess.Popen([PROGRAM, "plan", "--here", app], stdin=request, stdout=told, preexec_fn=limits)
        _, _, usage = os.wait4(process.pid, 0)
        told.seek(0)
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps({"told": told.read().decode(), "memory_mb": usage.ru_maxrss // 1024, "seconds": seconds}))


main(*sys.argv[1:])
