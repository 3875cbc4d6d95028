"""What systemd says of the units of a build and of a release, which are there only while they run.

    python3 -m tests.audit.onhost.units SERVICE

SERVICE is the app's. Each unit gets the properties that this host's own program gives it, and sleeps; the build is one
by that program. Where Slipway isn't, they are what `systemd-run` makes by itself: a script that deploys has no more. It
prints two lines, `BUILD` and `RELEASE` with the unit's name, and then what `systemd-analyze security` says.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time

from tests.audit.onhost.builder import builder, module, release_command, wanted

SLEEP = ("sleep", "60")
SECONDS = 30
"""Time for a unit to start."""
RELEASE_UNIT = "slipway-audit-release.service"
BUILD_UNIT = "slipway-audit-build.service"
"""Where there is no builder."""


def systemctl(*words: str) -> str:
    """What it prints, whatever its end was."""
    return subprocess.run(["systemctl", *words], capture_output=True, text=True, check=False).stdout.strip()


def analyzed(unit: str) -> str:
    """What systemd says of a unit, once its program runs."""
    until = time.monotonic() + SECONDS
    while systemctl("show", "--property=SubState", "--value", unit) != "running":
        if time.monotonic() > until:
            sys.exit(f"{unit} doesn't run")
        time.sleep(0.1)
    words = ["systemd-analyze", "security", "--no-pager", unit]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def of_build(app: str | None) -> tuple[str, str]:
    """Name of a build's unit, and what systemd says of it."""
    if not app:
        return BUILD_UNIT, of_command(
            ["systemd-run", "--quiet", "--collect", f"--unit={BUILD_UNIT}", *SLEEP], BUILD_UNIT
        )
    slipway = module("release.app").App(app)
    # No release may begin meanwhile: it would take the folder away.
    with module("release.runs").locked(slipway, "its build is looked at", SECONDS), builder(app) as made:
        sleeping = threading.Thread(target=made.run, args=[SLEEP], daemon=True)
        sleeping.start()
        try:
            return made.unit, analyzed(made.unit)
        finally:
            systemctl("stop", made.unit)
            sleeping.join(SECONDS)


def of_command(command: list[str], unit: str) -> str:
    """What systemd says of the unit that a command starts, which is ended."""
    try:
        subprocess.run(command, stdin=subprocess.DEVNULL, check=True)
        return analyzed(unit)
    finally:
        systemctl("stop", unit)


def main() -> None:
    """Print what systemd says of both."""
    name, _, release = sys.argv[1].partition("@")
    app = name if release else None
    if app:
        wanted(app)  # an error where it isn't Slipway's
    unit, of_a_build = of_build(app)
    plain = ["systemd-run", "--quiet", "--collect", f"--unit={RELEASE_UNIT}", *SLEEP]
    command = release_command(app, SLEEP, RELEASE_UNIT) if app else plain
    of_a_release = of_command(command, RELEASE_UNIT)
    print(f"\nBUILD {unit}\nRELEASE {RELEASE_UNIT}\n{of_a_build}\n{of_a_release}")


if __name__ == "__main__":
    main()
