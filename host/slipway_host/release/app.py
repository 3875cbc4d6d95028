"""An app on this host, and its state."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re

from slipway_host.protocol import FORMAT
from slipway_host.release import forms
from slipway_host.release import manifest as manifests
from slipway_host.release.progress import Progress
from slipway_host.system import System
from slipway_host.systemd import Systemd
from slipway_host.text import read_environment, secrets_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from typing import Any

    from slipway_host.protocol import Record, Request
    from slipway_host.wanted import Wanted


def digest(*parts: object) -> str:
    """SHA-256 of bytes, and of values that JSON can hold."""
    told = hashlib.sha256()
    for part in parts:
        told.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
        told.update(b"\0")
    return told.hexdigest()


def digest_of_text(text: str) -> str:
    """SHA-256 of a text, as the operator's side computes it for an environment."""
    return hashlib.sha256(text.encode()).hexdigest()


class App:
    """An app, and the run for it, if this process is one."""

    def __init__(self, name: str, system: System | None = None, progress: Progress | None = None) -> None:
        self.name = name
        self.system = system or System()
        self.systemd = Systemd(self.system)
        self.at = self.system.layout.app(name)
        """Its paths and units."""
        self.progress = progress or Progress(name, self.system)
        self.wanted: Wanted = {}
        """What it should be."""
        self.request: Request = {}
        """The request of the run."""
        self.record_id: str | None = None
        """Id of the run's record, once there is one."""
        self.launched: float | None = None
        """When the run started a release's units, in seconds since 1970."""
        self.migrator: str | None = None
        """A release whose migrations have every revision of the database."""
        self.mark = f"slipway-schema {os.urandom(16).hex()}: "
        """How answers of the schema program begin (database.py). The app's code doesn't know it."""

    def work(self, release: str) -> Path:
        """The app's folder in a release, with its pyproject.toml."""
        return self.at.folder(release) / self.subdir(release)

    def subdir(self, release: str) -> str:
        """The same, relative to the release's folder."""
        return (self.record(release).get("wanted") or self.wanted)["source"]["subdir"]

    # ── records ──────────────────────────────────────────────────────────────────────────────────────────────────

    def record(self, record_id: str | None) -> Record:
        """The record of a release or a rollback; empty if there is none, or none that can be read."""
        return forms.record(self.system.json(self.at.record(record_id))) if record_id else {}

    def write_record(self, record_id: str, **facts: Any) -> None:
        """Add facts to a record; make it if there is none."""
        self.at.records.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = dict(self.record(record_id)) or {"format": FORMAT, "id": record_id, "number": self.next_number()}
        self.system.replace(self.at.record(record_id), json.dumps(known | facts, indent=1), 0o600)

    def history(self) -> list[Record]:
        """All records, oldest first. Their numbers decide: the host's clock may have been set back."""
        found = [self.record(path.stem) for path in self.at.records.glob(self.at.record("*").name)]
        return sorted((each for each in found if each.get("id")), key=order)

    def next_number(self) -> int:
        """The number of the next record."""
        return max((each.get("number", 0) for each in self.history()), default=0) + 1

    def number(self, release: str) -> tuple[int, str]:
        """Key to sort releases by, in the order in which they were made."""
        return order(self.record(release))

    # ── releases ─────────────────────────────────────────────────────────────────────────────────────────────────

    def serving(self) -> str | None:
        """Id of the release that `current` names, or None before the first one."""
        return self.at.current.readlink().name if self.at.current.is_symlink() else None

    def good(self) -> list[str]:
        """Ids of releases that have served and still exist, oldest first."""
        if not self.at.releases.is_dir():
            return []
        there = {folder.name for folder in self.at.releases.iterdir()}
        return [each["id"] for each in self.history() if each["id"] in there and each.get("state") == "good"]

    def unfinished(self) -> list[str]:
        """Names in the folder of releases that never served."""
        there = self.at.releases.iterdir() if self.at.releases.is_dir() else []
        return sorted(each.name for each in there if self.record(each.name).get("state") != "good")

    def installed(self, *folders: Path) -> set[str]:
        """Ids of releases with a unit file, in the given folders or else in all."""
        folders = folders or (self.system.layout.units, self.system.layout.warm_units)
        names = [self.at.unit("?*", kind) for kind in ("s*", "*.s*")]
        found = (path for folder in folders for name in names for path in self.system.like(folder, name))
        return self.at.released(path for path in found if path.is_file() and not path.is_symlink())

    def warm(self) -> set[str]:
        """Ids of releases that no longer serve, but keep running for a while.

        They are warm until their time is over, and as long as a unit that ends them waits or works.
        """
        layout = self.system.layout
        left = self.installed(layout.warm_units) - self.installed(layout.units) - {self.serving() or ""}
        in_time = {each for each in left if self.record(each).get("warm_until", 0) > self.system.time()}
        return in_time | self._ending(left - in_time)

    def _ending(self, releases: Iterable[str]) -> set[str]:
        """Those of these releases that a unit is going to end; it may be late."""
        units = {release: self.at.ends(release) for release in sorted(releases)}
        if not units:
            return set()
        states = self.systemd.states([unit for each in units.values() for unit in each], "ActiveState")
        over = ("inactive", "failed")
        return {each for each, ends in units.items() if any(states[unit]["ActiveState"] not in over for unit in ends)}

    def proxied(self) -> str | None:
        """Id of the release that nginx's upstream file names, or None."""
        with contextlib.suppress(FileNotFoundError):
            text = self.system.layout.upstream(self.name).read_text()
            found = re.search(rf"unix:{re.escape(str(self.at.sockets))}/([^.;]+)\.sock;", text)
            return found[1] if found else None
        return None

    def left(self) -> list[Record]:
        """Records of releases that somebody rolled back from, oldest first.

        Of those made from the same, the newest that served decides: a bad one doesn't count once a later one is good.
        """
        newest: dict[str, Record] = {}
        for record in self.history():
            if "inputs" in record and (record.get("bad") or record.get("state") == "good"):
                newest[json.dumps(record["inputs"], sort_keys=True)] = record
        return sorted((record for record in newest.values() if record.get("bad")), key=order)

    def rolled_back(self) -> Record | None:
        """The record of a bad release that was made from exactly what is wanted now, or None."""
        inputs = self.wanted.get("inputs")
        bad = [record for record in self.left() if record.get("inputs") == inputs]
        return bad[-1] if bad and self.record(self.serving()).get("inputs") != inputs else None

    # ── files of releases ────────────────────────────────────────────────────────────────────────────────────────

    def describe(self, release: str, base: str | None = None) -> None:
        """Write a release's manifest. For files shared with `base`, which is whole, its manifest is used."""
        known: manifests.Manifest = self.system.json(self.at.manifest(base)) if base else {}
        shared = manifests.stamps(self.at.folder(base), known) if base else {}
        taken = manifests.take(self.at.folder(release), known, shared)
        text = manifests.dump(taken)
        self.system.replace(self.at.manifest(release), text, 0o600)
        self.write_record(release, manifest=digest_of_text(text))
        self._remember(release, self._look(release, map(os.fsencode, taken)))

    def seen(self, release: str) -> Path:
        """File with the stamps of a release's files when they were last found whole, since the boot."""
        return self.at.seen / release

    def _look(self, release: str, paths: Iterable[bytes]) -> bytes:
        """The stamps of a release's files and of its manifest, as one text."""
        told = str(self.record(release).get("manifest"))
        about = map(str, manifests.stamp(self.at.manifest(release).lstat()))
        return manifests.look(self.at.folder(release), [*paths], told, self.system.boot(), *about)

    def _remember(self, release: str, look: bytes) -> None:
        """Store the stamps of a whole release; they make the next look quicker."""
        with contextlib.suppress(OSError):  # the disk may be full
            self.seen(release).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.system.replace(self.seen(release), look, 0o600)

    def damage(self, release: str) -> dict[str, str]:
        """Path → what is wrong, of a release's files that differ from its manifest; empty if none does."""
        told, folder = self.record(release).get("manifest"), self.at.folder(release)
        if not told:  # Slipway 0.1 made it, and it has no manifest yet
            program = self.at.programs(release) / "python"
            return {} if os.access(program, os.X_OK) else {str(program.relative_to(folder)): "is missing"}
        text = ""
        with contextlib.suppress(OSError, ValueError):
            seen = self.seen(release).read_bytes()
            if seen == self._look(release, manifests.looked_at(seen)):
                return {}
        with contextlib.suppress(OSError, ValueError):
            text = self.at.manifest(release).read_text()
        if digest_of_text(text) != told:
            return {str(self.at.manifest(release)): "is damaged"}
        manifest = json.loads(text)
        look = self._look(release, map(os.fsencode, manifest))
        wrong = manifests.compare(folder, manifest)
        if not wrong:
            self._remember(release, look)
        return wrong

    # ── secrets ──────────────────────────────────────────────────────────────────────────────────────────────────

    def secrets(self) -> set[str]:
        """All texts of this app's environments to hide; see text.py."""
        named: Wanted = self.wanted or self.system.json(self.at.wanted)
        given = self.system.json(self.at.build_environment) | self.request.get("build", {})
        found = secrets_of(given, app=self.name)
        for path in [self.at.environment, *self.at.environments.glob(self.at.env("*").name)]:
            made = named if path == self.at.environment else self.record(path.stem).get("wanted", {})
            with contextlib.suppress(OSError):
                values = read_environment(path.read_text(errors="replace"))
                for known in ("RELEASE_ID", "PYTHONPATH"):
                    values.pop(known, None)
                found |= secrets_of(values, made.get("secrets"), self.name)
        for path in self.at.secret_files.glob("*"):
            with contextlib.suppress(OSError):
                text = path.read_text(errors="replace")
                found |= secrets_of({"SECRET": text, **read_environment(text)}, app=self.name)
        for path in (self.at.deploy_key, self.at.dependencies_key):  # a build can read the second
            with contextlib.suppress(OSError):
                lines = [each for each in path.read_text(errors="replace").splitlines() if not each.startswith("---")]
                found |= secrets_of({"KEY": "\n".join(lines)}, app=self.name)
        return found


def order(record: Record) -> tuple[int, str]:
    """Key to sort records by: their number; records of Slipway 0.1 have none, and their id decides."""
    return record.get("number", 0), record.get("id", "")


def in_order(app: App, releases: Iterable[str]) -> list[str]:
    """Releases in the order in which they were made, oldest first."""
    return sorted(releases, key=app.number)
