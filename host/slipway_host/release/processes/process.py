"""What every kind of process of a release has. A kind says how it differs."""

from __future__ import annotations

import re

from slipway_host.release import sandbox
from slipway_host.system import Failed, tail
from slipway_host.systemd import killed_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App

JOURNAL_LINES = 300  # that are looked at
LOOK_EVERY = 0.1  # seconds


class Process:
    """A kind of process of a release."""

    name: str
    """What messages call it, as the subject of a sentence."""
    kinds: tuple[str, ...]
    """Its units, as `AppLayout.unit` takes them, in the order in which they start. The last one is its service."""
    finishes = False
    """Whether it may take long to end, because it finishes its work: then nothing waits for it."""

    def units(self, app: App, release: str) -> list[str]:
        """Names of its units."""
        return [app.at.unit(release, kind) for kind in self.kinds]

    def service(self, app: App, release: str) -> str:
        """Name of its service."""
        return app.at.unit(release, self.kinds[-1])

    # ── it starts ────────────────────────────────────────────────────────────────────────────────────────────────

    def start(self, app: App, release: str) -> None:
        """Start its units, unless they run. Raises Failed if its service doesn't start."""
        *others, service = self.units(app, release)
        if others:
            app.systemd.ctl("start", *others)
        done = app.systemd.in_time("start", service)
        if done is None:
            app.systemd.kill(service)
            late = f"{self.name} didn't start within the time of its unit (TimeoutStartSec)"
            raise Failed(f"{late}:\n{self.journal(app, release)}")
        if done.code != 0:
            raise Failed(f"{self.name} doesn't start:\n{self.journal(app, release)}")

    def journal(self, app: App, release: str) -> str:
        """The last lines of its journal, up to the end of its work, without what it writes later.

        If a signal ended it, a hint follows.
        """
        command = ["journalctl", f"--namespace=+{app.name}", "-u", self.service(app, release)]
        command += ["-n", str(JOURNAL_LINES), "-o", "cat", "--no-pager"]
        lines = app.system.run(*command, check=False).output.splitlines()
        words = self.deaths(app)
        died = [number for number, line in enumerate(lines) if re.search(words, line)] if words else []
        killed = None
        if app.launched:  # an earlier signal may have been ours
            killed = killed_in(app.system.run(*command, f"--since=@{app.launched:.6f}", check=False).output)
        more = f"\n{sandbox.killed_by(killed, app.at.user)}" if killed else ""
        return tail("\n".join(lines[: died[-1] + 1] if died else lines)) + more

    def deaths(self, app: App) -> str | None:
        """Pattern of the lines that its program writes when its work ends; None if there is none."""
        return None

    def check(self, app: App, release: str) -> None:
        """Before anything changes: raise Failed if it couldn't start."""

    # ── it is proven ─────────────────────────────────────────────────────────────────────────────────────────────

    def ready(self, app: App, release: str) -> tuple[bool, str]:
        """Look at it once. Returns whether it works, and what was seen."""
        raise NotImplementedError

    def pause(self, app: App, seen: str, looks: int) -> float:
        """Seconds until it may be looked at again.

        + seen: what was seen last
        + looks: how often something was
        """
        return LOOK_EVERY

    def in_vain(self, app: App, release: str, seen: str, times: int) -> str | None:
        """Why there is nothing to wait for; None if it may still become ready.

        + seen: what was seen last
        + times: how often in a row
        """
        return None

    def seconds(self, app: App) -> float:
        """Seconds that it may take to be ready."""
        raise NotImplementedError

    def unready(self, app: App, seen: str) -> str:
        """The message if it isn't ready in that time.

        + seen: what was seen last
        """
        raise NotImplementedError

    def turned_bad(self, app: App, seen: str) -> str:
        """The message if it was ready and no longer is."""
        raise NotImplementedError

    def keep(self, app: App, release: str) -> None:
        """Another release is about to serve: until that is certain it may go on, and start anew."""

    # ── it ends ──────────────────────────────────────────────────────────────────────────────────────────────────

    def let_go(self, app: App, release: str) -> None:
        """Another release serves from now on. What it has begun it may finish; it may stay warm."""

    def busy(self, app: App, release: str) -> bool:
        """Whether it still has something to finish."""
        raise NotImplementedError

    def cut_off(self, app: App, release: str) -> bool:
        """End what it hasn't finished in time, while its release stays warm. Returns whether that could be done."""
        return app.systemd.in_time("stop", self.service(app, release)) is not None

    def kill(self, app: App, release: str) -> None:
        """End it at once: its release never served. By default it may finish what it has begun."""

    def clear(self, app: App, release: str) -> None:
        """Remove what it leaves behind, after its units are gone."""
