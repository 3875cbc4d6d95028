"""Files of requirements, and which lock file of a source counts."""

from __future__ import annotations

import pytest
from slipway_host import lockfiles, requirements
from slipway_host.requirements import Unreadable

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read(text: str, **others: str) -> requirements.Requirements:
    files = {"requirements.txt": text, **{name.replace("_", "/") + ".txt": each for name, each in others.items()}}
    return requirements.read("requirements.txt", lambda path: files[path].encode() if path in files else None)


def test_what_is_pinned_and_what_is_not() -> None:
    found = read(
        "# by hand\n--index-url https://index.example.com/simple\n\n"
        "flask==3.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb  # the newest\n"
        "click ; python_version > '3'\n"
        f"kit @ git+https://git.example.com/kit.git@{COMMIT}\n"
        "tool @ git+ssh://git@git.example.com/tool.git@main\n"
    )
    assert found.options == ["--index-url https://index.example.com/simple"]
    assert found.hashed == ["flask==3.0 --hash=sha256:aa --hash=sha256:bb"]
    assert found.git == [f"kit @ git+https://git.example.com/kit.git@{COMMIT}"]
    assert found.loose == ["click ; python_version > '3'", "tool @ git+ssh://git@git.example.com/tool.git@main"]
    assert [requirements.named(line) for line in found.loose] == ["click", "tool"]
    assert not found.hashes
    assert read("flask==3 --hash=sha256:aa\n").hashes
    assert not read("# nothing\n").hashes


def test_what_is_of_the_source_itself() -> None:
    found = read(f"-e .\n--editable ./libs/a\n./libs/b[extra]\n-e git+https://x.example/y.git@{COMMIT}#egg=y\n")
    assert found.local == [(".", True), ("./libs/a", True), ("./libs/b[extra]", False)]
    assert found.git == [f"y @ git+https://x.example/y.git@{COMMIT}"]


@pytest.mark.parametrize(
    ("line", "local", "folder"),
    [
        (".[prod]", (".[prod]", False), "."),
        ("-e .[a,b]", (".[a,b]", True), "."),
        ("-e ./ # the project", ("./", True), "."),
        ("-e ./libs/a ; python_version < '3'", ("./libs/a ; python_version < '3'", True), "libs/a"),
        ("kit[more] @ ./libs/kit", ("./libs/kit[more]", False), "libs/kit"),
        ("kit @ file:libs/kit", ("libs/kit", False), "libs/kit"),
        ("kit @ file:./libs/kit", ("./libs/kit", False), "libs/kit"),
        ("./wheels/a-1-py3-none-any.whl --hash=sha256:aa", ("./wheels/a-1-py3-none-any.whl", False), "wheels/"),
        ("libs/kit[more]", ("./libs/kit[more]", False), "libs/kit"),
        ("../libs/kit", ("../libs/kit", False), "../libs/kit"),
    ],
)
def test_ways_to_write_a_folder(line: str, local: tuple[str, bool], folder: str) -> None:
    files = {"r.txt": f"{line}\n".encode(), "libs/kit/pyproject.toml": b""}
    found = requirements.read("r.txt", files.get)
    assert (found.local, found.loose, found.hashed) == ([local], [], [])
    assert requirements.folder_of(local[0]).startswith(folder)


def test_a_name_with_a_slash_is_a_folder_only_if_there_is_a_project() -> None:
    assert read("libs/kit\n").loose == ["libs/kit"]


def test_folders_with_packages_are_beside_the_file_that_names_them() -> None:
    found = read(
        "-r sub/base.txt\n-f https://x.example/y\n--find-links ${HERE}/z\n",
        sub_base="--find-links ../wheels\n--find-links=more\n",
    )
    assert found.links == ["wheels", "sub/more"]
    assert found.options == ["-f https://x.example/y", "--find-links ${HERE}/z"]


def test_files_that_include_each_other() -> None:
    """By a path relative to the one that names it, and each once."""
    found = read(
        "-r sub/base.txt\n--requirement=sub/base.txt\n-c sub/limits.txt\n",
        sub_base="-r ../requirements.txt\na==1 --hash=sha256:aa\n",
        sub_limits="b<2\n",
    )
    assert found.hashed == ["a==1 --hash=sha256:aa"] and found.loose == []
    assert found.constraints == ["sub/limits.txt"]
    assert sorted(found.files) == ["requirements.txt", "sub/base.txt", "sub/limits.txt"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-r base.txt\n", "there is no base.txt in the source"),
        ("-c base.txt\n", "there is no base.txt in the source"),
        ("-r ../base.txt\n", "there is no ../base.txt in the source"),
        ("-r /etc/passwd\n", "there is no /etc/passwd in the source"),
        ("-e /srv/kit\n", "-e /srv/kit isn't in the source"),
        ("kit @ file:///srv/kit\n", "kit @ file:///srv/kit isn't in the source"),
        ("-r https://x.example/base.txt\n", "https://x.example/base.txt is elsewhere; copy it into the source"),
        ("--global-option=x\n", "--global-option=x is no option that uv takes there"),
    ],
)
def test_what_is_not_in_the_source(text: str, why: str) -> None:
    with pytest.raises(Unreadable) as told:
        read(text)
    assert str(told.value) == why


def test_files_without_end() -> None:
    def content(path: str) -> bytes:
        return f"-r x{path}\n".encode()

    with pytest.raises(Unreadable) as told:
        requirements.read("a.txt", content)
    assert str(told.value) == "more than 50 files include each other"


# ── which one counts ─────────────────────────────────────────────────────────────────────────────────────────────────

PINNED, LOOSE = "a==1 --hash=sha256:aa\n", "a\n"


@pytest.mark.parametrize(
    ("subdir", "files", "hashes", "found"),
    [
        ("", {"uv.lock": "", "requirements.txt": PINNED}, True, "uv.lock"),
        ("", {"requirements.txt": PINNED, "poetry.lock": ""}, True, "requirements.txt"),
        ("", {"requirements.txt": LOOSE, "poetry.lock": ""}, True, "poetry.lock"),
        ("", {"requirements.txt": LOOSE, "poetry.lock": ""}, False, "requirements.txt"),
        ("", {"requirements.txt": LOOSE}, True, "requirements.txt"),
        ("", {"requirements.txt": "-r nowhere.txt\n"}, True, "requirements.txt"),
        ("a/b", {"uv.lock": "", "a/uv.lock": ""}, True, "a/uv.lock"),
        ("a/b", {"uv.lock": "", "a/b/pdm.lock": ""}, True, "a/b/pdm.lock"),
        ("a/b", {"uv.lock": "", "a/b/requirements.txt": LOOSE, "a/b/pyproject.toml": ""}, True, "uv.lock"),
        ("a/b", {"uv.lock": "", "a/b/requirements.txt": LOOSE}, True, "a/b/requirements.txt"),
        ("a/b", {"uv.lock": "", "a/b/requirements.txt": LOOSE}, False, "a/b/requirements.txt"),
        ("a", {"poetry.lock": "", "requirements.txt": PINNED}, True, None),
        ("", {}, True, None),
    ],
)
def test_which_lock_file_counts(subdir: str, files: dict[str, str], hashes: bool, found: str | None) -> None:
    def content(path: str) -> bytes | None:
        return files[path].encode() if path in files else None

    assert lockfiles.found(subdir, content, hashes=hashes) == found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("uv.lock", "uv"),
        ("a/pylock.toml", "pylock"),
        ("pylock.prod.toml", "pylock"),
        ("requirements/prod.txt", "requirements"),
        ("poetry.lock", "poetry"),
        ("pdm.lock", "pdm"),
    ],
)
def test_kinds(path: str, kind: str) -> None:
    assert lockfiles.kind_of(path) == kind


@pytest.mark.parametrize(
    ("project", "name"),
    [
        (b"[project]\n", "uv.lock"),
        (b'[project]\n[tool.poetry]\nname = "a"\n', "poetry.lock"),
        (b"[tool.poetry.dependencies]\n", "poetry.lock"),
        (b"[tool.pdm.dev-dependencies]\n", "pdm.lock"),
        (b"[tool.poetrylike]\n", "uv.lock"),
        (None, "uv.lock"),
    ],
)
def test_which_lock_file_a_project_lacks(project: bytes | None, name: str) -> None:
    """Never one that another tool would make: it would be empty."""
    assert lockfiles.lacking(project) == name


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({".python-version": "3.12\n"}, (".python-version", "3.12")),
        ({".python-version": "# for pyenv\n\n3.12.4\n3.11\n", "runtime.txt": "x"}, (".python-version", "3.12.4")),
        ({"a/.python-version": "cpython@3.12\n", ".python-version": "3.11"}, ("a/.python-version", "3.12")),
        ({"a/runtime.txt": "python-3.12.4\n"}, ("a/runtime.txt", "3.12.4")),
        ({"a/.python-version": "cpython-3.14+freethreaded-linux\n"}, ("a/.python-version", "3.14")),
        ({".python-version": "pypy3.10\n"}, None),
        ({"runtime.txt": "python-3.12.4\n"}, None),
        ({}, None),
    ],
)
def test_the_python_that_a_source_names(files: dict[str, str], found: tuple[str, str] | None) -> None:
    assert lockfiles.named_python("a", {name: text.encode() for name, text in files.items()}.get) == found


@pytest.mark.parametrize(("python", "told"), [("3.13", True), ("3.12", False), ("3.12.4", False), ("3.12.5", True)])
def test_a_source_that_names_another_python(python: str, told: bool) -> None:
    said = lockfiles.other_python("", {".python-version": b"3.12.4\n"}.get, python)
    assert said == ('.python-version names 3.12.4: for that, set python to "3.12"' if told else "")


PIPFILE = """{"_meta": {"sources": [{"name": "pypi", "url": "https://pypi.org/simple", "verify_ssl": true},
{"name": "own", "url": "https://index.example.com/simple"}]},
"default": {
"flask": {"extras": ["async"], "hashes": ["sha256:aa", "sha256:bb"], "index": "pypi", "version": "==3.1"},
"tzdata": {"hashes": ["sha256:cc"], "markers": "python_version >= '3.9'", "version": "==2026.1"},
"tool": {"git": "https://git.example.com/tool.git", "ref": "0123456789abcdef0123456789abcdef01234567"},
"kit": {"editable": true, "path": "./kit"}},
"develop": {"pytest": {"hashes": ["sha256:dd"], "version": "==8.0"}}}
"""


def test_what_pipenv_locked() -> None:
    found = requirements.read("api/Pipfile.lock", {"api/Pipfile.lock": PIPFILE.encode()}.get)
    assert found.options == [
        "--index-url https://pypi.org/simple",
        "--extra-index-url https://index.example.com/simple",
    ]
    assert found.hashed == [
        "flask[async]==3.1 --hash=sha256:aa --hash=sha256:bb",
        "tzdata==2026.1 ; python_version >= '3.9' --hash=sha256:cc",
    ]
    assert found.git == ["tool @ git+https://git.example.com/tool.git@0123456789abcdef0123456789abcdef01234567"]
    assert (found.local, found.loose) == ([("./kit", True)], [])
    assert found.hashes, "so it counts without a setting"


@pytest.mark.parametrize("text", ["", "[]", '{"default": {"flask": {}}}'])
def test_a_lock_file_of_pipenv_that_is_none(text: str) -> None:
    with pytest.raises(requirements.Unreadable, match="isn't as Pipenv writes it"):
        requirements.read("Pipfile.lock", {"Pipfile.lock": text.encode()}.get)


@pytest.mark.parametrize("name", ["pyproject.toml", "setup.py", "setup.cfg"])
def test_a_projects_own_file_pins_nothing(name: str) -> None:
    found = requirements.read(name, {name: b"x"}.get)
    assert (found.projects, found.hashed, found.loose, found.hashes) == ([name], [], [], False)
    there = {name: b"x"}.get
    assert lockfiles.found("", there) is None
    assert lockfiles.found("", there, hashes=False) == name
    assert lockfiles.found("", {name: b"x", "poetry.lock": b""}.get, hashes=False) == "poetry.lock"
