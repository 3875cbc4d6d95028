"""A process that an app names: a worker that takes jobs from a queue, a scheduler. No request reaches it.

It runs beside those of the old release until the new one serves. Then the old ones are told to stop: they take no more
work, finish what they have, and end. That may take long, and nothing waits for it.
"""

from __future__ import annotations

from slipway_host.release import hooks
from slipway_host.release.processes.process import Process
from slipway_host.systemd import ACTIVE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from slipway_host.release.app import App
    from slipway_host.wanted import Named as Settings

ALIVE_SECONDS = 3  # if a release's record doesn't tell
START_MORE_SECONDS = 30  # beyond those that it must have run: systemd starts it anew after a crash
ASKED = "ActiveState,NRestarts,ActiveEnterTimestampMonotonic,Job"


class Named(Process):
    """See Process. One of several of the same name is an object of its own."""

    finishes = True

    def __init__(self, kind: str) -> None:
        """`kind`: its unit, such as ``worker.service``, or ``worker.2.service`` for the second of several."""
        self.kinds = (kind,)
        self.named = kind.partition(".")[0]
        self.name = f"The process {kind.removesuffix('.service')}"

    def settings(self, app: App, release: str) -> Settings:
        """What its release was made with."""
        found: Settings = {"command": [], "alive": ALIVE_SECONDS, "alone": False}
        made = app.record(release).get("wanted") or app.wanted
        found.update(made.get("processes", {}).get(self.named, {}))
        return found

    def mark(self, app: App, release: str) -> Path:
        """The file that lets it run although nginx's upstream doesn't name its release: a boot removes it."""
        return app.at.started / release

    def check(self, app: App, release: str) -> None:
        """Raise Failed if its program doesn't exist."""
        hooks.must_exist(app, release, f"processes.{self.named}", self.settings(app, release)["command"])

    def start(self, app: App, release: str) -> None:
        """Start it, unless it runs. If it is alone, the one of another release ends first."""
        if self.settings(app, release)["alone"]:
            self._end_others(app, release)
        self.keep(app, release)
        service = self.service(app, release)
        if app.systemd.state(service)["ActiveState"] == "deactivating":
            app.systemd.ctl("start", "--no-block", service)  # it is started as soon as it has ended
        else:
            super().start(app, release)

    def _end_others(self, app: App, release: str) -> None:
        from slipway_host.release import processes

        for other in sorted(app.installed() - {release}):
            same = [each for each in processes.of(app, other) if getattr(each, "named", None) == self.named]
            if same:
                app.systemd.stop(*(each.service(app, other) for each in same))

    def ready(self, app: App, release: str) -> tuple[bool, str]:
        """Whether it has run for a while without ending, or finishes its work and is started again then."""
        state = app.systemd.state(self.service(app, release), ASKED)
        active = state["ActiveState"]
        if active == "deactivating" and state.get("Job", "0") != "0":
            return True, "finishing its work, to be started again"
        if active not in ACTIVE:
            return False, active
        since = state.get("ActiveEnterTimestampMonotonic", "0")
        ran = app.system.clock() - (int(since) / 1e6 if since.isdigit() else 0)
        return ran >= self.settings(app, release)["alive"], f"running for {ran:.1f} s"

    def seconds(self, app: App) -> float:
        """A little more than it must have run."""
        known = app.wanted.get("processes", {}).get(self.named)
        return (known["alive"] if known else ALIVE_SECONDS) + START_MORE_SECONDS

    def unready(self, app: App, seen: str) -> str:
        """See Process."""
        return f"{self.name} didn't keep running within {self.seconds(app)} s; it was {seen}."

    def turned_bad(self, app: App, seen: str) -> str:
        """See Process."""
        return f"{self.name[0].lower()}{self.name[1:]} ended: it was {seen}."

    def keep(self, app: App, release: str) -> None:
        """Set its mark."""
        mark = self.mark(app, release)
        mark.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        mark.touch()

    def let_go(self, app: App, release: str) -> None:
        """Tell it to stop: it finishes what it has begun."""
        self.mark(app, release).unlink(missing_ok=True)
        app.systemd.ctl("stop", "--no-block", self.service(app, release), check=False)

    def busy(self, app: App, release: str) -> bool:
        """No: it finishes by itself, in the time of its unit."""
        return False

    def cut_off(self, app: App, release: str) -> bool:
        """Nothing to do: systemd ends it when its time is over."""
        return True

    def kill(self, app: App, release: str) -> None:
        """Tell it to stop: it may have begun a job."""
        self.let_go(app, release)

    def clear(self, app: App, release: str) -> None:
        """Remove its mark."""
        self.mark(app, release).unlink(missing_ok=True)


def found(kinds: Iterable[str]) -> list[Process]:
    """Those that a release has with these units."""
    return [Named(kind) for kind in kinds if kind.endswith(".service")]
