"""A host that is a folder, with an nginx that accepts and serves what it is told to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from slipway_host.proxy import generations, live
from slipway_host.proxy.nginx import Nginx, Refused
from slipway_host.system import Failed, System

from tests.unit.host.fakes import FakeSystem


class Proxy:
    """nginx, and what became of what was asked of it."""

    def __init__(self, system: FakeSystem) -> None:
        self.system, self.layout = system, system.layout
        self.etc = self.layout.nginx
        self.nginx = Nginx(system)
        self.validated: list[list[tuple[Path, Path]]] = []
        self.proven: list[dict[str, str | None]] = []
        self.refuses: str | None = None
        """What nginx -t says, if it refuses."""
        self.not_live: str | None = None
        """Why the reload isn't live, if it isn't."""
        self.error: type[Failed] = Refused
        """How that is raised."""
        self.unmasks: list[bool] = []

    def validate(self, system: System, mounts: list[tuple[Path, Path]]) -> None:
        """In place of `live.validate`: nobody may see the change yet."""
        self.validated.append(mounts)
        for source, place in mounts:
            assert source.exists() and place.exists(), f"{source} over {place}"
        if self.refuses:
            raise Refused(self.refuses)

    def prove(
        self, system: System, expected: Mapping[str, str | None], unmask: bool = False, alone: bool = True
    ) -> None:
        """In place of `live.reload_and_prove`."""
        self.proven.append(dict(expected))
        self.unmasks.append(unmask)
        if self.not_live:
            raise self.error(self.not_live)

    @property
    def live(self) -> str:
        """The generation that the files on disk name."""
        target = (self.etc / "slipway").readlink()
        assert target.parts[0] == "slipway.d"
        return target.name

    @property
    def generations(self) -> set[str]:
        """Names in slipway.d."""
        return {path.name for path in (self.etc / "slipway.d").iterdir()}

    def upstream(self, app: str, release: str | None) -> str:
        """What an app's upstream file should be."""
        return generations.upstream(self.layout.app(app), release)

    def answers(self, monkeypatch: pytest.MonkeyPatch, answers: Mapping[str, str | None]) -> None:
        """What the running nginx answers."""
        monkeypatch.setattr(live, "ask", lambda system, path: answers.get(path))


def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A host as Debian's package leaves it."""
    made = Proxy(FakeSystem(tmp_path))
    made.etc.mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (made.etc / "nginx.conf").write_text("# Debian's\n")
    monkeypatch.setattr(live, "validate", made.validate)
    monkeypatch.setattr(live, "reload_and_prove", made.prove)
    monkeypatch.setattr(os, "sync", lambda: None)
    return made


def configuration(text: str = "one") -> dict[str, str]:
    """The files of a generation."""
    return {"nginx.conf": f"# @GENERATION@ {text}\n", "sites/notes.conf": f"# {text}\n", "sites/wiki-next.conf": "#\n"}
