"""Find out how a source migrates its database: with which tool, and where that tool's configuration lies.

The source may be one that isn't trusted yet, so it is only read.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from slipway_host.release import trees
from slipway_host.system import Failed
from slipway_host.text import listed, read_environment, short

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from slipway_host.release.app import App

NAMES = {
    "alembic": "alembic",
    "django": "manage.py migrate",
    "flask": "flask db upgrade",
    "advanced-alchemy": "database upgrade",
}
"""Tool → the command that messages name."""
BY_APP = ("flask", "advanced-alchemy")
"""Tools that have their configuration of the app."""
FILES = ("alembic.ini", "env.py", "manage.py", "pyproject.toml")
DEEPEST = 3  # folders below the app's that are searched
MOST_ENTRIES = 20_000  # of folders that are searched
SKIPPED = re.compile(r"\.|_?_?(node_modules|site-packages|tests?|testing|docs?|examples?|vendor)$")
"""Beginning of the name of a folder that isn't searched."""
LOCATION = re.compile(rb"^[ \t]*script_location[ \t]*[=:][ \t]*(.*?)[ \t\r]*$", re.MULTILINE)


SECTION = re.compile(rb"^\[([^\]\n]+)\]", re.MULTILINE)
OTHERS = {
    "aerich": ("aerich", "", "aerich upgrade"),
    "Flask-Migrate": ("flask_migrate", "", "flask db upgrade"),
    "Masonite ORM": ("masonite_orm", "", "masonite-orm migrate"),
    "Piccolo": ("piccolo", "piccolo_app.py", "piccolo migrations forwards all"),
    "yoyo": ("yoyo_migrations", "", "yoyo apply --batch"),
}
"""Name → package, a file of the apps that migrate with it (empty: all do), and its command."""


class Tool:
    """What migrates a database. Paths are relative to the app's folder, or absolute."""

    def __init__(self, name: str, config: str = "", folder: str = "", app: str = "") -> None:
        """See the attributes."""
        self.name = name
        """One of NAMES."""
        self.config = config
        """Its configuration's file; empty where it finds that itself in `folder`."""
        self.folder = folder
        """The folder in which it runs; empty for the app's."""
        self.app = app
        """``module:attribute`` of the app, where that has the configuration; else empty."""

    @property
    def needs_app(self) -> bool:
        """Whether it has its configuration of the app, and nothing names that yet."""
        return self.name in BY_APP and not self.app

    @property
    def options(self) -> list[str]:
        """Options of the schema program."""
        named = {"--tool": "" if self.name == "alembic" else self.name, "--config": self.config, "--in": self.folder}
        named |= {"--app": self.app}
        return [f"{option}={value}" for option, value in named.items() if value]


class Source:
    """A source whose tool is looked for."""

    def __init__(self, app: App, folder: Path, subdir: str, named: str, environment: Mapping[str, str]) -> None:
        """`folder`: has the source.

        + subdir: the app's folder below it
        + named: ``module:attribute`` of the app
        + environment: of the app, or a part of it
        """
        self.app, self.folder, self.subdir = app, folder, subdir
        self.object, self.environment = named, environment

    def read(self, path: str) -> bytes | None:
        """Content of a file in the app's folder, or above it in the source; None if there is none."""
        inner = os.path.normpath(os.path.join(self.subdir, path))  # noqa: PTH118
        return None if inner.startswith("..") else trees.read(self.folder, inner)

    def found(self, names: tuple[str, ...]) -> Iterator[str]:
        """Paths of files with one of these names, in the app's folder and below: the nearest ones first."""
        level, entries = [""], 0
        for _ in range(DEEPEST + 1):
            below: list[str] = []
            files: list[str] = []
            for inside in level:
                with os.scandir(self.folder / self.subdir / inside) as entered:
                    for entry in entered:
                        entries += 1
                        if entries > MOST_ENTRIES:
                            return
                        path = f"{inside}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            if not SKIPPED.match(entry.name):
                                below.append(f"{path}/")
                        elif entry.name in names:
                            files.append(path)
            yield from sorted(files)
            level = sorted(below)

    # ── Alembic ──────────────────────────────────────────────────────────────────────────────────────────────────

    def alembic(self, config: str, *, told: bool = False) -> Tool:
        """Alembic with this configuration.

        + told: whether settings name it: then it is made for the app's folder, else for its own

        A `script_location` that is relative decides: it counts from the folder in which Alembic runs.
        """
        own, name = os.path.split(config)
        text = self.read(config) or b""
        self.is_one_line(config, text)
        place = LOCATION.search(text)
        location = place[1].decode(errors="replace").strip("\"'") if place else ""
        folders = ["", own] if told else [own, ""]
        if location and not re.search(r"%\(|:|^/", location):
            folders.sort(key=lambda each: self.read(f"{each}/{location}/env.py".lstrip("/")) is None)
        folder = folders[0]
        scripts = f"{own if '%(here)s' in location else folder}/{location.replace('%(here)s', '')}/env.py"
        scripts = os.path.normpath(scripts.lstrip("/"))
        there = self.read(scripts) if location else b""
        if there and b"advanced_alchemy" in there:
            return self.advanced_alchemy(scripts)
        if there is None:  # advanced-alchemy writes an alembic.ini that it doesn't read, for a folder that may not be
            for path in self.found(("env.py",)):
                if tool := self.tool_at(path):
                    return tool
        if name == "pyproject.toml":  # Alembic reads it in the folder in which it runs
            return Tool("alembic", config if told else "", own)
        if config == "alembic.ini" and not told:
            return Tool("alembic")
        return Tool("alembic", config, folder)

    def is_one_line(self, config: str, text: bytes) -> None:
        """Raise Failed if a configuration has several sections, which `alembic --name` runs one by one."""
        if not config.endswith(".ini"):
            return
        parts = SECTION.split(text)
        found = [
            name.decode(errors="replace")
            for name, inner in zip(parts[1::2], parts[2::2], strict=True)
            if LOCATION.search(inner)
        ]
        if set(found) <= {"alembic", "DEFAULT"}:
            return
        base = "alembic" if config == "alembic.ini" else f"alembic -c {short(config)}"
        each = [base if name == "alembic" else f"{base} -n {short(name)}" for name in found if name != "DEFAULT"]
        command = " && ".join(f"{one} upgrade head" for one in each)
        sections = listed([f"[{short(name)}]" for name in found])
        raise Failed(
            f"{short(config)} has a script_location in {sections}, and Slipway runs [alembic] alone: set migrate to a "
            f"command that runs what you need, such as \"sh -c '{command}'\"."
        )

    def django(self, path: str) -> Tool:
        """Django with this manage.py, which runs in its own folder."""
        return Tool("django", path, os.path.dirname(path))  # noqa: PTH120

    def advanced_alchemy(self, path: str) -> Tool:
        """Alembic with what an app of advanced-alchemy configures, and this env.py."""
        return Tool("advanced-alchemy", path, app=self.object)

    def tool_at(self, path: str, *, told: bool = False) -> Tool | None:
        """The tool that a file configures; None if it configures none.

        + told: whether settings name it
        """
        folder, name = os.path.split(path)
        text = self.read(path) or b""
        if path.endswith(".py"):
            if b"DJANGO_SETTINGS_MODULE" in text:
                return self.django(path)
            template = self.read(os.path.join(folder, "script.py.mako"))  # noqa: PTH118
            return self.advanced_alchemy(path) if b"advanced_alchemy" in text and template is not None else None
        beside = self.read(os.path.join(folder, "env.py")) or b""  # noqa: PTH118
        if path.endswith(".ini") and b"current_app" in beside and not LOCATION.search(text):
            return Tool("flask", path, app=self.object)
        wanted = told or name == "alembic.ini" or b"[tool.alembic" in text
        return self.alembic(path, told=told) if wanted else None

    def named(self, path: str, by: str) -> Tool:
        """The tool of a configuration that the settings name.

        + by: what names it
        """
        if self.read(path) is None:
            raise Failed(f"{by}: there is no {short(path)} in the app's folder.")
        tool = self.tool_at(path, told=True)
        if not tool:
            raise Failed(f"{by}: {short(path)} configures no migrations that Slipway knows.")
        return tool

    def by_variable(self, value: str) -> Tool:
        """Alembic with the configuration that ALEMBIC_CONFIG names: that of this source, not of a release before."""
        at, path = self.app.at, Path(value)
        if path.is_absolute():
            inner = None
            if path.is_relative_to(at.current):
                inner = path.relative_to(at.current)
            elif path.is_relative_to(at.releases):
                inner = Path(*path.relative_to(at.releases).parts[1:])
            if inner is None:
                return Tool("alembic", value)
            value = os.path.relpath(inner, self.subdir or ".")
        return self.named(os.path.normpath(value), "ALEMBIC_CONFIG")

    def search(self) -> Tool | None:
        """The tool whose configuration lies nearest to the app's folder."""
        tools: dict[tuple[str, str], str] = {}
        best: Tool | None = None
        depth = None
        for path in self.found(FILES):
            if depth is not None and path.count("/") > depth:
                break
            if tool := self.tool_at(path):
                tools.setdefault((tool.name, os.path.dirname(path)), path)  # noqa: PTH120
                best, depth = best or tool, path.count("/")
        if len(tools) > 1:
            told = listed([short(path) for path in tools.values()])
            raise Failed(f"The source has several configurations of migrations ({told}): name one with migrate_config.")
        if not best and self.environment.get("DJANGO_SETTINGS_MODULE"):
            return Tool("django")
        return best


def tool_of(
    app: App, folder: Path, subdir: str, wanted: Mapping[str, Any], environment: Mapping[str, str]
) -> Tool | None:
    """What migrates the database of the code in a folder; None where nothing does, or a command of the user's own.

    + subdir: the app's folder below it
    + wanted: its `app` and its `migration` (wanted.Wanted)
    + environment: of the app

    Raises Failed if that can't be decided, and Strange as `trees.read`.
    """
    migration = wanted["migration"]
    if migration["command"] != "auto":
        return None
    source = Source(app, folder, subdir, wanted.get("app") or "", environment)
    if config := migration.get("config"):
        return source.named(config, "migrate_config")
    if value := environment.get("ALEMBIC_CONFIG"):
        return source.by_variable(value)
    return source.search()


def of_release(app: App, release: str) -> Tool | None:
    """The same of a release, as it was made; where it was made with no such tool, as is wanted now."""
    record = app.record(release)
    made: Mapping[str, Any] = record.get("wanted", {})
    if made.get("migration", {}).get("command") != "auto":
        made = {**made, "migration": app.wanted["migration"]}
    if served := record.get("served"):
        made = {**made, "app": served["app"]}
    path = app.at.env(release)
    environment = read_environment(path.read_text()) if path.exists() else {}
    return tool_of(app, app.at.folder(release), app.subdir(release), made, environment)


def required(app: App, release: str) -> None:
    """Raise Failed if the release has a tool for migrations, and nothing says what it migrates."""
    if app.wanted["migration"]["command"] != "auto" or of_release(app, release):
        return
    packages = next(app.at.venv(release).glob("lib/python3*/site-packages"), None)
    if not packages:
        return
    there = {each.name.partition("-")[0].lower(): each.name for each in packages.glob("*.dist-info")}
    if is_direct(packages, there, "alembic"):
        raise Failed(
            "The release has Alembic, but its source has no alembic.ini and no [tool.alembic] that can be found: set "
            "migrate_config to the path of its configuration, or migrate to None if nothing is to be migrated."
        )
    if any(app.wanted.get("hooks", {}).get(each) for each in ("before_migrate", "after_migrate")):
        return  # which may migrate
    source = Source(app, app.at.folder(release), app.subdir(release), "", {})
    for name, (package, file, command) in OTHERS.items():
        if is_direct(packages, there, package) and (not file or any(source.found((file,)))):
            raise Failed(
                f"The release has {name}, which Slipway runs only as a command: set migrate to one, such as "
                f'"{command}", or to None if nothing is to be migrated.'
            )


def is_direct(packages: Path, there: Mapping[str, str], package: str) -> bool:
    """Whether a package is there, and for the app's own sake, rather than for another package's.

    + there: names of packages → the folders with their metadata, in `packages`
    """
    if package not in there:
        return False
    wanted = rf"^Requires-Dist: {package.replace('_', '[-_.]')}\b(?!.*;.*extra)".encode()
    for folder in there.values():
        metadata = trees.read(packages, f"{folder}/METADATA") or b""
        if re.search(wanted, metadata, re.MULTILINE | re.IGNORECASE):
            return False
    return True
