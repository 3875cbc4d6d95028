"""Read files of requirements, as pip and uv have them, and Pipenv's: what hashes pin, what is from git, what is local.

Both sides use it: the operator's to refuse a file before a run, the host to install it.
"""

from __future__ import annotations

import posixpath
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIPFILE = "Pipfile.lock"
PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg")
"""A project's own files: they name what it needs, and pin nothing."""
MOST_FILES = 50
"""That one file may include, directly or not."""
COMMIT = r"[0-9a-f]{40}"
_HASH = re.compile(r"\s--hash[= ]\S+")
_INCLUDED = re.compile(r"(?:-r|--requirement|-c|--constraint)[ =]?\s*(\S+)")
_LOCAL = re.compile(
    r"(?:-e|--editable)[ =]\s*(?P<editable>\S.*)"
    r"|(?:[A-Za-z0-9._-]+\s*(?P<extras>\[[^\]]*\])?\s*@\s*)?(?P<plain>(?:\.{1,2}(?:[/\[\s;]|$)|/|file:).*)"
)
_FOLDER = re.compile(r"(?P<plain>[\w.-]+(?:/[\w.-]+)+)/?(?:\[[^\]]*\])?(?:\s*;.*)?")
"""A folder without ./ before it, if it is one."""
_OPTIONS = re.compile(
    r"(?:-i|--index-url|--extra-index-url|-f|--find-links|--no-index|--no-binary|--only-binary|--pre|--trusted-host"
    r"|--prefer-binary|--require-hashes|--use-feature)(?:[ =]|$)"
)
"""Those of pip's that a file may have, and that uv takes, or that change nothing here."""
_LINKS = re.compile(r"(?:-f|--find-links)[ =]?\s*(?P<folder>(?![a-z]+://|/|file:|\$)\S+)$")
_GIT = re.compile(r"\bgit\+[a-z]+://")


class Unreadable(ValueError):
    """A file of requirements can't be used; the message says why, without what to do."""


class Requirements:
    """What a file of requirements and those that it includes ask for."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        """Path → content, of the file and of what it includes."""
        self.options: list[str] = []
        """Lines with options, such as an index."""
        self.links: list[str] = []
        """Paths of folders with packages."""
        self.hashed: list[str] = []
        """Lines with hashes."""
        self.loose: list[str] = []
        """Lines without a hash, which no file pins."""
        self.git: list[str] = []
        """Lines from git at a whole commit, which pins them."""
        self.local: list[tuple[str, bool]] = []
        """Folders, relative to the app's, with extras and a marker; and whether each is to be editable."""
        self.constraints: list[str] = []
        """Paths of files of constraints."""
        self.projects: list[str] = []
        """Paths of projects' own files, whose dependencies no file pins."""

    @property
    def hashes(self) -> bool:
        """Whether all of it is pinned, and something is."""
        return not self.loose and any(_HASH.search(f" {line}") for line in self.hashed)

    @property
    def unpinned(self) -> str:
        """What no file pins, in words: the first few."""
        return ", ".join(map(named, self.loose[:3])) or "what it names"


def read(path: str, content: Callable[[str], bytes | None]) -> Requirements:
    """Read a file of requirements.

    + path: of the file, relative to the source
    + content: gives a file's content by such a path; None if there is no such file

    Raises Unreadable.
    """
    found, path = Requirements(), posixpath.normpath(path)
    if posixpath.basename(path) in PROJECTS:
        found.files[path] = _content(path, content)
        found.projects.append(path)
    elif posixpath.basename(path) == PIPFILE:
        found.files[path] = _content(path, content)
        _read_pipfile(found, found.files[path])
    else:
        _read(found, path, content)
    return found


def _read_pipfile(found: Requirements, content: bytes) -> None:
    """What Pipenv locked of the packages that production has."""
    import json

    try:
        told = json.loads(content)
        sources = [each["url"] for each in told["_meta"]["sources"]]
        found.options += [f"--index-url {url}" for url in sources[:1]]
        found.options += [f"--extra-index-url {url}" for url in sources[1:]]
        for name, each in told["default"].items():
            extras = f"[{','.join(each['extras'])}]" if each.get("extras") else ""
            marker = f" ; {each['markers']}" if each.get("markers") else ""
            if "git" in each:
                found.git.append(f"{name}{extras} @ git+{each['git']}@{each['ref']}{marker}")
            elif "path" in each:
                found.local.append((f"{each['path']}{extras}{marker}", bool(each.get("editable"))))
            else:
                hashes = "".join(f" --hash={each}" for each in each.get("hashes", []))
                line = f"{name}{extras}{each['version']}{marker}{hashes}"
                (found.hashed if hashes else found.loose).append(line)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"it isn't as Pipenv writes it ({type(error).__name__}: {error})") from error


def _read(found: Requirements, path: str, content: Callable[[str], bytes | None]) -> None:
    if path in found.files:
        return
    if len(found.files) >= MOST_FILES:
        raise Unreadable(f"more than {MOST_FILES} files include each other")
    found.files[path] = told = _content(path, content)
    for line in _lines(told.decode("utf-8-sig", errors="replace")):
        if included := _INCLUDED.match(line):
            inner = posixpath.normpath(posixpath.join(posixpath.dirname(path), included[1]))
            if line.startswith(("-c", "--constraint")):
                found.constraints.append(inner)
            if inner in found.constraints:  # no line of it is installed for its own sake
                found.files[inner] = _content(inner, content)
            else:
                _read(found, inner, content)
        elif local := _LOCAL.match(line):
            target = local["editable"] or local["plain"]
            _take_local(found, line, target, local["extras"] or "", editable=bool(local["editable"]))
        elif links := _LINKS.match(line):  # pip and uv look beside the file
            found.links.append(posixpath.normpath(posixpath.join(posixpath.dirname(path), links["folder"])))
        elif line.startswith("-"):
            if not _OPTIONS.match(line):
                raise Unreadable(f"{line.split()[0]} is no option that uv takes there")
            found.options.append(line)
        elif (folder := _FOLDER.fullmatch(line)) and _is_project(folder["plain"], content):
            _take_local(found, line, f"./{line}", "", editable=False)
        elif _GIT.search(line):
            (found.git if re.search(rf"@{COMMIT}(?:#|\s|;|$)", line) else found.loose).append(line)
        else:
            (found.hashed if _HASH.search(line) else found.loose).append(line)


def _content(path: str, content: Callable[[str], bytes | None]) -> bytes:
    if re.match(r"[a-z]+:/", path):
        raise Unreadable(f"{path.replace(':/', '://', 1)} is elsewhere; copy it into the source")
    told = None if path.startswith(("/", "../")) else content(path)
    if told is None:
        raise Unreadable(f"there is no {path} in the source")
    return told


def _take_local(found: Requirements, line: str, target: str, extras: str, *, editable: bool) -> None:
    """A line that names a folder, or one from git that is to be editable."""
    target = re.sub(r"\s--\S+", "", f" {target}").strip()
    if _GIT.search(target):
        name = re.search(r"#(?:.*&)?egg=([A-Za-z0-9._-]+)", target)
        plain = f"{name[1]} @ {target.partition('#')[0]}" if name else target
        (found.git if re.search(rf"@{COMMIT}(?:#|$)", target) else found.loose).append(plain)
        return
    place, mark, marker = target.partition(";")
    folder = re.sub(r"^file:(?://)?", "", place.partition("#")[0].strip())
    if folder.startswith("/"):
        raise Unreadable(f"{line} isn't in the source")
    found.local.append((f"{folder}{extras}{f' ; {marker.strip()}' if mark else ''}", editable))


def folder_of(local: str) -> str:
    """The folder of such a line, without extras and marker."""
    return posixpath.normpath(local.partition(";")[0].partition("[")[0].strip())


def _is_project(folder: str, content: Callable[[str], bytes | None]) -> bool:
    return any(content(posixpath.join(folder, name)) is not None for name in ("pyproject.toml", "setup.py"))


def _lines(text: str) -> Iterator[str]:
    """Logical lines: without comments, and with what a backslash continues joined."""
    whole = ""
    for line in text.splitlines():
        stripped = re.sub(r"(^|\s)#.*$", "", line).rstrip()
        if stripped.endswith("\\"):
            whole += stripped[:-1] + " "
            continue
        whole += stripped
        if whole.strip():
            yield re.sub(r"\s+", " ", whole.strip())
        whole = ""
    if whole.strip():
        yield re.sub(r"\s+", " ", whole.strip())


def named(line: str) -> str:
    """The name of the package that a line asks for, or the line."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return found[0] if found else line
