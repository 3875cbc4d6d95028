"""Fetch: real archives and repositories are unpacked, as this user."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
import tarfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slipway_host.release import room, source, sources
from slipway_host.release.app import App
from slipway_host.release.progress import Progress
from typing_extensions import override

from tests.unit.host.prepared import COMMIT, Place, RealCommands, failure, place_at, tree


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr(source, "as_builder", lambda app: [])
    return place_at(tmp_path, monkeypatch, RealCommands)


# ── archives ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_archive_is_unpacked(place: Place, tmp_path: Path) -> None:
    with tarfile.open(place.at.archive(COMMIT), "w:gz") as tar:
        (tmp_path / "pyproject.toml").write_text("[project]\n")
        tar.add(tmp_path / "pyproject.toml", "apps/pyproject.toml")
    source.fetch(place.app, "r1")
    folder = place.at.folder("r1")
    assert tree(folder) == {"apps/pyproject.toml": "[project]\n"}
    assert place.system.owners["r1"] == ("_notes", "_notes")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o750
    assert "subject" not in place.app.record("r1")


def test_an_archive_that_did_not_arrive(place: Place) -> None:
    with pytest.raises(FileNotFoundError):
        source.fetch(place.app, "r1")


def test_a_damaged_archive_fails_the_step(place: Place) -> None:
    path = place.at.archive(COMMIT)
    path.write_bytes(b"\x1f\x8b" + b"\xff" * 90)
    assert failure(source.fetch, place.app, "r1").startswith(f"{path} is damaged: ")


def test_a_source_that_comes_with_a_request_is_kept(place: Place) -> None:
    source.store(place.app, place.at.archive(COMMIT), base64.b64encode(b"\x1f\x8b\0").decode())
    (path,) = place.layout.sources.iterdir()
    assert path.name == f"notes.{COMMIT}.tar.gz" and path.read_bytes() == b"\x1f\x8b\0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_it_is_unpacked_as_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_at(tmp_path, monkeypatch)
    with tarfile.open(place.at.archive(COMMIT), "w:gz"):
        pass
    source.fetch(place.app, "r1")
    folder = place.at.folder("r1")
    assert place.system.calls == [
        f"setpriv --reuid=_notes --regid=_notes --clear-groups --no-new-privs tar -x -C {folder} --no-same-owner -m"
    ]


# ── repositories ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[str]]:
    """URL of a repository, and its commits."""
    folder = tmp_path_factory.mktemp("repository")
    identity = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull} | identity

    def git(*argv: str) -> str:
        done = subprocess.run(["git", "-C", folder, *argv], check=True, capture_output=True, text=True, env=environment)
        return done.stdout.strip()

    git("init", "--quiet", "--initial-branch=main")
    commits = []
    for number, subject in enumerate(("First", "Second: größer")):
        (folder / "pyproject.toml").write_text(f"# {number}\n")
        git("add", ".")
        git("commit", "--quiet", "-m", f"{subject}\n\nand why")
        commits.append(git("rev-parse", "HEAD"))
    return f"file://{folder}", commits


def wants(place: Place, url: str, commit: str) -> None:
    """Let the source be a commit of a repository."""
    place.app.wanted["source"] = {"kind": "git", "url": url, "ssh": "", "subdir": "", "commit": commit}


def test_a_commit_is_fetched(place: Place, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    for release, commit, subject, text in (
        ("r1", commits[1], "Second: größer", "# 1\n"),
        ("r2", commits[0], "First", "# 0\n"),
    ):
        wants(place, url, commit)
        source.fetch(place.app, release)
        assert tree(place.at.folder(release)) == {"pyproject.toml": text}
        assert place.app.record(release)["subject"] == subject


def test_a_commit_that_is_there_needs_no_network(place: Place, repository: tuple[str, list[str]]) -> None:
    url, commits = repository
    wants(place, url, commits[0])
    source.fetch(place.app, "r1")
    assert len(place.system.matching(" fetch ")) == 1
    wants(place, url, commits[1])
    source.fetch(place.app, "r2")
    assert len(place.system.matching(" fetch ")) == 1


@pytest.mark.parametrize(("ref", "others"), [("main", False), (None, True)], ids=["by a branch", "by itself"])
def test_a_commit_that_a_branch_led_to_is_fetched_alone(
    place: Place, repository: tuple[str, list[str]], ref: str | None, others: bool
) -> None:
    """One that somebody named has to be on a branch or a tag, so that all of them are fetched."""
    url, commits = repository
    wants(place, url, commits[1])
    place.app.request["ref"] = ref or commits[1]
    source.fetch(place.app, "r1")
    (fetched,) = place.system.matching(" fetch ")
    assert ("+refs/heads/*:refs/heads/*" in fetched) is others
    assert (f"+{commits[1]}:refs/slipway/wanted" in fetched) is not others


class RealTime(RealCommands):
    """And it waits, as a host does."""

    @override
    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @override
    def clock(self) -> float:
        return time.monotonic()


@pytest.mark.parametrize("named", ["a branch", "a commit"])
def test_a_plan_and_a_release_may_fetch_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: tuple[str, list[str]], named: str
) -> None:
    """Twelve of them: each has what it wants, and none is in another's way."""
    monkeypatch.setattr(source, "as_builder", lambda app: [])
    url, commits = repository
    place = place_at(tmp_path / "several", monkeypatch, RealTime)
    start = threading.Barrier(12)

    def fetch(number: int) -> dict[str, str]:
        app = App("notes", RealTime(tmp_path / "several"), Progress("notes", place.system, place.events.append))
        app.wanted = {**place.app.wanted}
        app.wanted["source"] = {"kind": "git", "url": url, "ssh": "", "subdir": "", "commit": commits[number % 2]}
        app.request["ref"] = "main" if named == "a branch" else commits[number % 2]
        folder = place.at.folder(f"r{number}")
        start.wait()
        source.unpack(app, folder)
        return tree(folder)

    with ThreadPoolExecutor(12) as pool:
        found = list(pool.map(fetch, range(12)))
    assert found == [{"pyproject.toml": f"# {number % 2}\n"} for number in range(12)]
    assert place.said() == [], "no copy was taken for damaged"


def test_a_commit_that_is_not_there(place: Place, repository: tuple[str, list[str]]) -> None:
    url, _ = repository
    wants(place, url, "0" * 40)
    assert failure(source.fetch, place.app, "r1") == f"Commit {'0' * 40} is on no branch and no tag of {url}."


def test_a_repository_that_moved(place: Place, repository: tuple[str, list[str]], tmp_path: Path) -> None:
    url, commits = repository
    wants(place, url, commits[0])
    source.fetch(place.app, "r1")
    other = f"file://{tmp_path}/none"
    wants(place, other, commits[0])
    message = failure(source.fetch, place.app, "r2")
    assert message.startswith(f"{other} can't be fetched:\nfatal: "), "the mirror of the old one isn't asked"


@pytest.mark.parametrize("damaged", ["objects/??/*", "HEAD", "config", "refs/heads/main"])
def test_a_mirror_that_a_power_cut_has_damaged_is_made_anew(
    place: Place, repository: tuple[str, list[str]], damaged: str
) -> None:
    url, commits = repository
    wants(place, url, commits[1])
    source.fetch(place.app, "r1")
    files = list(place.at.mirror.glob(damaged))
    for path in files:
        path.chmod(0o644)
        path.write_bytes(b"")
    source.fetch(place.app, "r2")
    assert files and tree(place.at.folder("r2")) == {"pyproject.toml": "# 1\n"}
    assert list(place.layout.mirrors.iterdir()) == [place.at.mirror]


@pytest.mark.parametrize("left", ["HEAD.lock", "packed-refs.lock", "refs/heads/main.lock", "refs/slipway/wanted.lock"])
@pytest.mark.parametrize("named", ["a branch", "a commit"])
def test_a_fetch_that_was_killed_is_in_nobodys_way(
    place: Place, repository: tuple[str, list[str]], named: str, left: str
) -> None:
    """git's locks outlive it."""
    url, commits = repository
    wants(place, url, commits[0])
    place.app.request["ref"] = "main" if named == "a branch" else commits[0]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(source, "_fetch", lambda app, git: None)
        failure(source.fetch, place.app, "r0")
    (place.at.mirror / left).parent.mkdir(parents=True, exist_ok=True)
    (place.at.mirror / left).touch()
    source.fetch(place.app, "r1")
    assert tree(place.at.folder("r1")) == {"pyproject.toml": "# 0\n"} and place.said() == []


def test_a_damaged_mirror_stays_where_it_cannot_be_made_anew(
    place: Place, repository: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, commits = repository
    wants(place, url, commits[1])
    source.fetch(place.app, "r1")
    (place.at.mirror / "marked").touch()
    monkeypatch.setattr(sources, "survey", lambda git, commit: False)
    assert failure(source.fetch, place.app, "r2") == f"`git ls-tree` of {commits[1]} failed."
    assert (place.at.mirror / "marked").exists()
    assert place.said() == [
        f"this host's copy of the repository is damaged, so it is fetched anew. `git ls-tree` of {commits[1]} failed."
    ]


def test_how_a_repository_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the app's own key, and without a question; one that is too large ends at a part of the disk."""
    place = place_at(tmp_path, monkeypatch)
    monkeypatch.setattr(room, "free", lambda path: (400, None))
    wants(place, "git@x:notes", COMMIT)
    place.app.wanted["source"]["ssh"] = "ssh -i key"
    place.system.failing = {"cat-file": "", " fetch ": "error: index-pack died of signal 25"}
    given: list[dict[str, str]] = []
    run = place.system.run

    def noted(*argv: str, **options: object) -> object:
        given.extend([options["env"]] if "env" in options else [])  # type: ignore[list-item]
        return run(*argv, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(place.system, "run", noted)
    assert failure(source.fetch, place.app, "r1") == (
        "git@x:notes can't be fetched:\nerror: index-pack died of signal 25\n"
        "It takes more than three quarters of what is free on the disk."
    )
    (fetched,) = place.system.matching(" fetch ")
    assert fetched.startswith("prlimit --fsize=300 git -C ")
    (environment,) = given
    assert (environment["GIT_SSH_COMMAND"], environment["GIT_TERMINAL_PROMPT"]) == ("ssh -i key", "0")


def test_a_subject_is_one_line_whatever_is_in_it(place: Place) -> None:
    place.at.mirror.mkdir()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(place.at.mirror)]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subject = "safe\rdeadbee forged\x1b]52;c;aGk=\x07\u2028next\x0bline"
    for each in ("first", subject):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "--cleanup=verbatim", "-m", each], check=True)
    second, first = source.subjects(place.app, "HEAD")
    assert first.endswith(" first")
    assert second.partition(" ")[2] == "safe\\x0ddeadbee forged\\x1b]52;c;aGk=\\x07\\u2028next\\x0bline"
