"""Read a poetry.lock or a pdm.lock: what it installs here, as requirements. The app's own Python runs it.

PACKAGES is a folder with `packaging`, and with `tomli` for a Python before 3.11. It prints one line of JSON: `options`,
`hashed` and `git` are lines of requirements, `local` has paths and whether each is to be editable, `builds` says
whether the project itself is to be installed; or `error` says why the file can't be used.

usage: pins.py PACKAGES KIND LOCK PROJECT [extra=NAME | group=NAME] ...
"""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import sys
from pathlib import Path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    Found = dict[str, Any]

ALWAYS = {"poetry": "main", "pdm": "default"}
"""Kind → the group that every installation has."""


KNOWN = {"poetry": (2, 1), "pdm": (4, 5)}
"""Kind → the newest form of its lock file of which is known what its hash is made of."""


class Unfit(Exception):
    """The lock file can't be used; the message says why and what to do."""


def packaging(name: str) -> Any:
    """A module of `packaging`."""
    return importlib.import_module(f"packaging.{name}")


def toml(path: str) -> Found:
    """A file's content; before Python 3.11 PACKAGES has what reads it. Raises ValueError or OSError if it can't be."""
    reader = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    content: Found = reader.loads(Path(path).read_text(encoding="utf-8"))
    return content


def plain(name: str) -> str:
    """A package's name as indexes have it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def fits(marker: str, extras: Iterable[str] = ()) -> bool:
    """Whether a marker holds for this Python on this machine, with any of these extras."""
    if not marker.strip():
        return True
    parsed = packaging("markers").Marker(marker)
    return any(parsed.evaluate({"extra": each}) for each in ("", *extras))


class Reader:
    """A lock file, and what of it counts."""

    def __init__(
        self, kind: str, lock: Found, project: Found, extras: list[str], groups: list[str], folder: Path
    ) -> None:
        """`lock`, `project`: the parsed files; `extras`, `groups`: those that are asked for; `folder`: the app's."""
        self.kind, self.lock, self.project, self.folder = kind, lock, project, folder
        self.tool: Found = project.get("tool", {}).get(kind, {})
        self.extras = extras
        self.groups = {ALWAYS[kind], *groups}
        if kind == "pdm":
            self.groups |= set(extras)
        self.hashed: list[str] = []
        self.git: list[str] = []
        self.local: list[tuple[str, bool]] = []

    def told(self) -> Found:
        """What the file says."""
        self.check()
        seen: set[str] = set()
        for package in self.packages():
            if plain(package["name"]) not in seen:
                seen.add(plain(package["name"]))
                self.take(package)
        return {
            "options": self.indexes(),
            "hashed": sorted(self.hashed),
            "git": sorted(self.git),
            "local": sorted(self.local),
            "builds": self.builds(),
        }

    def builds(self) -> bool:
        """Whether the project itself is installed, as its own tool does it."""
        if self.kind == "poetry":
            wanted = bool(self.tool.get("package-mode", True)) and "build-system" in self.project
            return wanted and ("packages" in self.tool or "include" in self.tool or self.has_module())
        return bool(self.tool.get("distribution", "build-system" in self.project))

    def has_module(self) -> bool:
        """Whether there is the module of the project's name that Poetry would install; without one it goes on."""
        named = self.tool.get("name") or self.project.get("project", {}).get("name", "")
        module = re.sub(r"[-_.]+", "_", named)
        places = [self.folder / each for each in (module, f"{module}.py", f"src/{module}", f"src/{module}.py")]
        return any(each.exists() for each in places)

    def check(self) -> None:
        """Raise Unfit if the file is older than the project, or lacks what is asked for or depended on."""
        if outdated(self.kind, self.lock, self.project):
            raise Unfit(
                f"{self.kind}.lock is older than pyproject.toml: `{self.kind} lock` in the project, commit it, and run "
                "again."
            )
        required, name = required_python(self.project)
        here = ".".join(map(str, sys.version_info[:3]))
        if required is not None and not within(required, here):
            raise Unfit(
                f"The project takes Python {required} ({name}), but gets {here}: set python to another version."
            )
        known_extras = {*self.lock.get("extras", {}), *self.project.get("project", {}).get("optional-dependencies", {})}
        known_groups = {*self.tool.get("group", {}), *self.project.get("dependency-groups", {})}
        known_groups |= {*self.tool.get("dev-dependencies", {}), *self.lock.get("metadata", {}).get("groups", [])}
        for what, asked, known in (
            ("extra", self.extras, known_extras),
            ("group", sorted(self.groups - {ALWAYS[self.kind]} - {*self.extras}), known_groups),
        ):
            for name in asked:
                if plain(name) not in {plain(each) for each in known}:
                    told = ", ".join(sorted(known)) or "none"
                    raise Unfit(f"The project has no {what} {name}; it has {told}: correct dependencies.{what}s.")
        there = {plain(each["name"]) for each in self.lock.get("package", [])}
        lacking = sorted({name for name, _ in self.roots() if name not in there})
        if lacking:
            raise Unfit(
                f"{self.kind}.lock is older than pyproject.toml, since it has no {lacking[0]}: `{self.kind} lock` in "
                "the project, commit it, and run again."
            )

    # ── which packages ───────────────────────────────────────────────────────────────────────────────────────────────

    def packages(self) -> Iterator[Found]:
        """The packages that are installed here."""
        packages: list[Found] = self.lock.get("package", [])
        inherited = "inherit_metadata" in self.lock.get("metadata", {}).get("strategy", [])
        if inherited or (packages and all("groups" in each for each in packages)):
            yield from (each for each in packages if self.counts(each))
        else:
            yield from self.walked(packages)

    def counts(self, package: Found) -> bool:
        """Whether a package is of a group that is asked for, and fits this machine."""
        groups = self.groups & set(package.get("groups", []))
        markers = package.get("markers", package.get("marker", ""))
        for group in groups:
            marker = markers.get(group, "") if isinstance(markers, dict) else markers
            if fits(str(marker), self.extras):
                return True
        return False

    def walked(self, packages: list[Found]) -> Iterator[Found]:
        """The packages that the project's dependencies lead to, for a file that doesn't say so itself."""
        by_name: dict[str, list[Found]] = {}
        for package in packages:
            by_name.setdefault(plain(package["name"]), []).append(package)
        todo, seen = list(self.roots()), set[tuple[str, str]]()
        while todo:
            name, extra = todo.pop()
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for package in by_name.get(name, []):
                if not self.is_for_this_python(package):
                    continue
                yield package
                todo += self.needed(package, extra)

    def is_for_this_python(self, package: Found) -> bool:
        """Whether a package takes this Python: of several versions in one file, one does."""
        asked = str(package.get("python-versions") or package.get("requires_python") or "*")
        return within(asked, ".".join(map(str, sys.version_info[:3])))

    def needed(self, package: Found, extra: str) -> Iterator[tuple[str, str]]:
        """Name and extra of what a package needs here."""
        if self.kind == "pdm":
            yield from from_texts(package.get("dependencies", []), [extra])
            return
        for name, asked in package.get("dependencies", {}).items():
            for each in asked if isinstance(asked, list) else [asked]:
                table = each if isinstance(each, dict) else {}
                optional = table.get("optional", False)
                chosen = extra and plain(name) in of_extra(package, extra)
                if (not optional or chosen) and fits(str(table.get("markers", "")), [extra]):
                    yield from ((plain(name), more) for more in ("", *table.get("extras", [])))

    def roots(self) -> Iterator[tuple[str, str]]:
        """Name and extra of what the project itself depends on."""
        project = self.project.get("project", {})
        yield from from_texts(project.get("dependencies", []), [""])
        for extra in self.extras:
            yield from from_texts(project.get("optional-dependencies", {}).get(extra, []), [extra])
        chosen = {plain(name) for extra in self.extras for name in self.lock.get("extras", {}).get(extra, [])}
        tables = [self.tool.get("dependencies", {})]
        for group in sorted(self.groups - {ALWAYS[self.kind]}):
            yield from from_texts(self.project.get("dependency-groups", {}).get(group, []), [""])
            listed = self.tool.get("group", {}).get(group, {}).get("dependencies", {})
            tables.append(listed)
            yield from from_texts(self.tool.get("dev-dependencies", {}).get(group, []), [""])
        for table in tables:
            yield from self.tabled(table, chosen)

    def tabled(self, table: Found, chosen: set[str]) -> Iterator[tuple[str, str]]:
        """Name and extra of Poetry's own table of dependencies."""
        for name, asked in table.items():
            for each in asked if isinstance(asked, list) else [asked]:
                about = each if isinstance(each, dict) else {}
                here = ".".join(map(str, sys.version_info[:3]))
                optional = about.get("optional", False) and plain(name) not in chosen
                if name == "python" or optional or not within(str(about.get("python", "*")), here):
                    continue
                if fits(str(about.get("markers", "")), self.extras):
                    yield from ((plain(name), more) for more in ("", *about.get("extras", [])))

    # ── how each is installed ────────────────────────────────────────────────────────────────────────────────────────

    def take(self, package: Found) -> None:
        """Note how a package is installed."""
        name, source = package["name"], package.get("source", {})
        kind = source.get("type", "")
        if self.kind == "pdm":
            kind = next((each for each in ("git", "path", "url") if each in package), "")
            source = {"url": package.get(kind), "resolved_reference": package.get("revision"), **package}
        if kind == "git":
            below = source.get("subdirectory")
            place = f"#subdirectory={below}" if below else ""
            self.git.append(f"{name} @ git+{of_git(source['url'])}@{source['resolved_reference']}{place}")
        elif kind in ("directory", "path"):
            editable = bool(package.get("develop" if self.kind == "poetry" else "editable", False))
            self.local.append((str(source["url"]), editable))
        elif kind == "file":
            raise Unfit(
                f"{name} is a file of the source ({source['url']}): make it a folder, or a package of an index."
            )
        else:
            hashes = sorted({each["hash"] for each in self.files(package) if each.get("hash")})
            if not hashes:
                raise Unfit(f"{self.kind}.lock has no hash of {name}: make it anew by `{self.kind} lock`.")
            asked = f"{name} @ {source['url']}" if kind == "url" else f"{name}=={package['version']}"
            self.hashed.append(" ".join([asked, *(f"--hash={each}" for each in hashes)]))

    def files(self, package: Found) -> list[Found]:
        """The files of a package; of Poetry before 1.3 and PDM before 2.8, all of them stand at the end of the file."""
        own: list[Found] = package.get("files", [])
        if own:
            return own
        every: Found = self.lock.get("metadata", {}).get("files", {})
        name = plain(package["name"])
        found: list[Found] = []
        for key, files in every.items():
            told, _, version = key.partition(" ")  # PDM's has a version
            if plain(told) == name and version in ("", package.get("version")):
                found += files
        return found

    def indexes(self) -> list[str]:
        """The options that name the indexes."""
        sources: list[Found] = self.tool.get("source", [])
        if self.kind == "pdm":
            first = [each["url"] for each in sources if each.get("name") == "pypi"]
            more = [each["url"] for each in sources if each.get("name") != "pypi" and "url" in each]
        else:
            ranked = [(each.get("priority", "primary"), each["url"]) for each in sources if "url" in each]
            first = [url for priority, url in ranked if priority in ("primary", "default")]
            more = [*first[1:], *(url for priority, url in ranked if priority not in ("primary", "default"))]
        return [*(f"--index-url {url}" for url in first[:1]), *(f"--extra-index-url {url}" for url in more)]


def required_python(project: Found) -> tuple[str | None, str]:
    """Which Pythons a project takes, and what says so; None if nothing does."""
    table = project.get("project")
    told = table.get("requires-python") if isinstance(table, dict) else None
    if isinstance(told, str):
        return told, "requires-python"
    tool = project.get("tool", {})
    for name in ("poetry", "dependencies"):
        tool = tool.get(name) if isinstance(tool, dict) else None
    asked = tool.get("python") if isinstance(tool, dict) else None
    return (asked if isinstance(asked, str) else None), "[tool.poetry.dependencies] python"


# ── whether a lock file fits its project ─────────────────────────────────────────────────────────────────────────────


def outdated(kind: str, lock: Found, project: Found) -> bool:
    """Whether a lock file was made from other dependencies than the project has now, by the hash that it has of them.

    False where that can't be told.
    """
    try:
        about = lock.get("metadata", {})
        told = str(about.get("content-hash" if kind == "poetry" else "content_hash", "")).removeprefix("sha256:")
        version = re.findall(r"\d+", str(about.get("lock-version" if kind == "poetry" else "lock_version", "")))
        made_of = of_poetry(project) if kind == "poetry" else of_pdm(project)
        hashes = {hashlib.sha256(json.dumps(each, sort_keys=True).encode()).hexdigest() for each in made_of}
    except (AttributeError, KeyError, TypeError):  # it isn't as its tool has it
        return False
    known = version and tuple(map(int, version[:2])) <= KNOWN[kind]
    return bool(known and hashes and re.fullmatch("[0-9a-f]{64}", told)) and told not in hashes


def of_poetry(project: Found) -> list[Found]:
    """What Poetry makes its hash of: 2.3 and newer, 2.0 to 2.2, and 1.x (Locker._get_content_hash)."""
    about, tool = project.get("project", {}), project.get("tool", {}).get("poetry", {})
    always = ("dependencies", "source", "extras", "dev-dependencies")
    of_tool = {key: tool[key] for key in (*always, "group") if key in tool}
    oldest = {key: tool.get(key) for key in always}
    of_project = {
        key: about[key] for key in ("requires-python", "dependencies", "optional-dependencies") if key in about
    }
    groups = project.get("dependency-groups", {})
    made: list[Found] = [oldest, {**oldest, **of_tool}]
    if of_project:
        made.append({"project": of_project, "tool": {"poetry": of_tool}})
    if groups:
        more = {"project": of_project} if of_project else {}
        made.append({**more, "dependency-groups": groups, "tool": {"poetry": of_tool}})
    return made


def of_pdm(project: Found) -> list[Found]:
    """What PDM makes its hash of: 2.17 and newer, and before (PyProject.content_hash). Empty where it takes more."""
    about, tool = project.get("project"), project.get("tool", {}).get("pdm", {})
    if about is None or "workspace" in tool:  # it reads Poetry's table, or those of the members
        return []
    groups: Found = {}
    for table in (project.get("dependency-groups", {}), tool.get("dev-dependencies", {})):
        for name, listed in table.items():
            groups[plain(name)] = [*groups.get(plain(name), []), *listed]
    own, resolution = tool.get("dev-dependencies", {}), tool.get("resolution", {})
    shared = {
        "sources": tool.get("source", []),
        "dependencies": about.get("dependencies", []),
        "optional-dependencies": about.get("optional-dependencies", {}),
        "requires-python": about.get("requires-python", ""),
    }
    overrides = (tool.get("overrides", {}), resolution.get("overrides", {}))
    return [
        {**shared, "dev-dependencies": groups, "resolution": resolution},
        {**shared, "dev-dependencies": own, "resolution": resolution},
        *({**shared, "dev-dependencies": own, "overrides": each} for each in overrides),
    ]


def of_git(url: str) -> str:
    """A repository's address as requirements have it: git@host:path is a path over SSH."""
    short = re.fullmatch(r"(?:(?P<user>[\w.-]+)@)?(?P<host>[\w.-]+):(?P<path>[^/].*)", url)
    return f"ssh://{short['user'] or 'git'}@{short['host']}/{short['path']}" if short else url


def of_extra(package: Found, extra: str) -> set[str]:
    """Names of what an extra of a package brings."""
    return {plain(re.split(r"[\s(\[;<>=!~]", text)[0]) for text in package.get("extras", {}).get(extra, [])}


def from_texts(texts: Iterable[Any], extras: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Name and extra of requirements as texts, of those that fit this machine."""
    parse = packaging("requirements").Requirement
    for text in texts:
        if not isinstance(text, str):  # {include-group = …}
            continue
        asked = parse(re.sub(r"^-e\s+.*#egg=", "", text))
        if asked.marker is None or any(asked.marker.evaluate({"extra": each}) for each in ("", *extras)):
            yield from ((plain(asked.name), more) for more in ("", *asked.extras))


def within(asked: str, version: str) -> bool:
    """Whether a version is within what Poetry or pip would write: ^3.11, ~3.11, 3.11.*, >=3.11,<4, a || b."""
    specifiers = packaging("specifiers").SpecifierSet
    return any(specifiers(",".join(map(_plain_range, one.split(",")))).contains(version) for one in asked.split("||"))


def _plain_range(asked: str) -> str:
    asked = asked.strip().replace(" ", "")
    if asked in ("", "*"):
        return ""
    if asked[0] not in "^~" or asked.startswith("~="):
        return asked if asked[0] in "<>=!~" else f"=={asked}"
    numbers = [int(each) for each in re.findall(r"\d+", asked[1:])]
    at = 0 if asked[0] == "^" and (numbers[0] or len(numbers) == 1) else min(1, len(numbers) - 1)
    upper = [*numbers[:at], numbers[at] + 1]
    return f">={asked[1:]},<{'.'.join(map(str, upper))}"


def main(kind: str, lock: str, project: str, *chosen: str) -> None:
    """Print what a lock file says."""
    extras, groups = ([each[6:] for each in chosen if each.startswith(f"{what}=")] for what in ("extra", "group"))
    try:
        parsed = [toml(path) for path in (lock, project)]
    except (ValueError, OSError) as error:
        print(json.dumps({"error": f"{lock} and {project} can't be read: {error}"}))
        return
    try:
        told = Reader(kind, parsed[0], parsed[1], extras, groups, Path(project).parent).told()
    except Unfit as error:
        told = {"error": str(error)}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        told = {"error": f"{lock} isn't as {kind} writes it ({type(error).__name__}: {error})."}
    print(json.dumps(told))


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    main(*sys.argv[2:])
