"""Changes of nginx's configuration, one at a time."""

from __future__ import annotations

import contextlib
import shutil

from slipway_host.names import NGINX
from slipway_host.proxy import generations, live
from slipway_host.proxy.live import Refused
from slipway_host.system import Busy, Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from slipway_host.protocol import NginxStatus
    from slipway_host.system import System

__all__ = ["Nginx", "Refused"]

LOCK_SECONDS = 120  # a change takes live.PROOF_SECONDS at most, plus `nginx -t`


class Nginx:
    """nginx on this host. A change that fails raises Refused; the old configuration then keeps serving.

    Call it with umask 022: nginx's user must be able to read the files.
    """

    def __init__(self, system: System) -> None:
        self.system = system
        self.layout = system.layout

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────

    def status(self) -> NginxStatus:
        """The configuration on disk, and whether the running nginx serves exactly that."""
        layout, on_disk = self.layout, generations.generation(self.layout)
        files = generations.files_of(layout.nginx_live) if on_disk and layout.nginx_live.is_dir() else {}
        ours = generations.managed(layout)
        try:
            wanted = generations.wanted_upstreams(layout, files)
            right = all(path.read_text(generations.UTF8, errors="replace") == text for path, text in wanted.items())
            expected = generations.expectation(layout) if ours and right else {}
            is_live = ours and right and all(live.ask(self.system, path) == value for path, value in expected.items())
        except FileNotFoundError:
            is_live = False
        since = live.since(self.system)
        return {"generation": on_disk, "managed": ours, "live": is_live, "since": since, "files": files}

    def workers(self) -> dict[int, str]:
        """Process id → title, of nginx's workers. The title of a worker that is shutting down says so at its end."""
        return live.workers(self.system)

    # ── changes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def check(self) -> None:
        """Raise Refused if nginx refuses the files on disk. Nothing is changed."""
        with self._locked():
            live.validate(self.system, [])

    def reload(self) -> None:
        """Validate the files on disk and make them live (after a renewed certificate, or a killed run)."""
        with self._locked():
            live.validate(self.system, [])
            live.reload_and_prove(self.system, generations.expectation(self.layout))

    def switch(self, app: str, release: str) -> None:
        """Make `release` of `app` serve from now on."""
        with self._locked():
            path = self.layout.upstream(app)
            for leftover in self.layout.upstreams.glob(f".*{path.name}*.partial"):  # of a run that was killed
                leftover.unlink()
            before = path.read_bytes()
            candidate = path.with_name(f".{path.name}.candidate.partial")
            self.system.replace(candidate, generations.upstream(self.layout.app(app), release))
            try:
                live.validate(self.system, [(candidate, path)])
                candidate.rename(path)
                try:
                    # Requests that old workers still send to the previous release are answered by it.
                    live.reload_and_prove(self.system, {f"/release/{app}": release}, alone=False)
                except Failed as refusal:
                    self.system.replace(path, before)
                    self._reload_anyway()
                    raise Refused(f"{refusal}\nThe previous release keeps serving.") from None
            finally:
                candidate.unlink(missing_ok=True)

    def apply(self, files: Mapping[str, str]) -> None:
        """Make `files` (relative path → content, without the generation's name) the configuration.

        The previous one is kept.
        """
        with self._locked():
            self._apply(files)

    def _apply(self, files: Mapping[str, str]) -> None:
        layout = self.layout
        generations.sweep(layout)
        layout.upstreams.mkdir(mode=generations.FOLDER_MODE, exist_ok=True)
        layout.nginx_generations.mkdir(mode=generations.FOLDER_MODE, exist_ok=True)
        name = generations.write(layout, files)
        repaired = self._upstreams(files)
        before, first = generations.generation(layout), not generations.managed(layout)
        if before is None or not layout.nginx_live.is_dir():
            generations.point(self.system, name)  # read by nobody yet
            before = None
        candidate = layout.nginx_generations / name
        try:
            main = [(candidate / layout.nginx_main.name, layout.nginx_main.resolve())] if first else []
            live.validate(self.system, [(candidate, layout.nginx_live.resolve()), *main, *repaired])
        except Failed:
            if before is None:
                layout.nginx_live.unlink()
            raise
        for right, path in repaired:
            right.rename(path)
        if first:
            shutil.copy2(layout.nginx_main, layout.nginx_before)
        generations.point(self.system, name)
        if first:
            self.system.link(layout.nginx_main, layout.nginx_target)
        try:
            live.reload_and_prove(self.system, generations.expectation(layout), unmask=True)
        except Failed as refusal:
            if not first and before in (None, name):
                # There is no older one. The files on disk are the wanted ones, and the next run tries again.
                raise
            self._put_back(None if first else before)
            raise Refused(f"{refusal}\nThe previous configuration was restored.") from None
        generations.forget(layout, (name, before))

    def _upstreams(self, files: Mapping[str, str]) -> list[tuple[Path, Path]]:
        """Write missing upstream files. For damaged ones, return pairs of a correct file and its place."""
        repaired: list[tuple[Path, Path]] = []
        for path, text in generations.wanted_upstreams(self.layout, files).items():
            if not path.exists():
                self.system.replace(path, text)  # read by nobody yet
            elif path.read_text(generations.UTF8, errors="replace") != text:  # half a file, or edited by hand
                right = path.with_name(f".{path.name}.repair.partial")
                self.system.replace(right, text)
                repaired.append((right, path))
        return repaired

    def _put_back(self, before: str | None) -> None:
        """Restore the generation `before`; None restores nginx's own configuration from before Slipway."""
        layout = self.layout
        if before is None:
            partial = layout.nginx_main.with_name(f".{layout.nginx_main.name}.partial")
            shutil.copy2(layout.nginx_before, partial)
            partial.rename(layout.nginx_main)
        else:
            generations.point(self.system, before)
        self._reload_anyway()

    def _reload_anyway(self) -> None:
        self.system.run("systemctl", "reload", NGINX, check=False)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one change at a time."""
        lock = self.layout.nginx_lock
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self.system.locked(lock, LOCK_SECONDS))
            except Busy as busy:
                raise Refused(
                    f"Another change of nginx did not end within {LOCK_SECONDS} s (`fuser -v {lock}` names it); "
                    "nothing was changed. Run again.",
                ) from busy
            yield
