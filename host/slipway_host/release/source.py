"""Fetch: get an app's source, from a commit of a repository or from the archive in the request."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from slipway_host.release import room, sources, trees
from slipway_host.system import Failed, tail
from slipway_host.text import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from slipway_host.lockfiles import Content
    from slipway_host.release.app import App

FETCH_SECONDS = 900
LOCK_SECONDS = 2 * FETCH_SECONDS  # for another run or a plan to fetch and unpack
# git's words about a repository that it can't read.
DAMAGED_COPY = re.compile(r"not a git repository|corrupt|is empty|bad object|unable to (read|parse|unpack)|bad config")
TOO_LARGE = f"signal {signal.SIGXFSZ:d}"  # git's words when the limit of a file's size ended it


class DamagedCopy(Failed):
    """The copy of a repository can't be read, for example after a power cut."""


def fetch(app: App, release: str) -> None:
    """Put the source into the release's folder, owned by the builder."""
    unpack(app, app.at.folder(release))
    source = app.wanted["source"]
    if source["kind"] == "git":
        app.write_record(release, subject=subjects(app, "-1", source["commit"])[0].partition(" ")[2])


def subjects(app: App, *argv: str) -> list[str]:
    """Commit and subject, from `git log` of the source; safe to show."""
    # Without the mailmap: it may be huge.
    options = ("-c", "log.mailmap=false", "-c", "log.showSignature=false")
    command = ["git", "-C", str(app.at.mirror), *options, "log", "-z", "--format=%h %s", *argv]
    done = app.system.run(*command, check=False, raw=True)
    told = done.output.strip("\0\n").split("\0") if done.code == 0 else [""]
    return [app.system.hidden.shown(one_line(each)) for each in told]


def unpack(app: App, folder: Path, archive: Path | None = None) -> None:
    """Make a folder of the source, owned by the builder.

    + archive: path of an archive; by default that of the wanted commit
    """
    source = app.wanted["source"]
    folder.mkdir(mode=0o750, parents=True)
    app.system.chown(folder, app.at.builder, app.at.builder)
    taking = [*as_builder(app), "tar", "-x", "-C", str(folder), "--no-same-owner"]
    if source["kind"] == "archive":
        with sources.plain(archive or app.at.archive(source["commit"])) as tar:
            # -m sets new times: the archive has none, and nginx distinguishes versions of static files by them.
            app.system.run(*taking, "-m", stdin=tar)
        return
    # One at a time: of two fetches, git's own locks would let one fail. And a damaged copy is replaced here.
    with app.system.locked(app.at.mirror_lock, LOCK_SECONDS, "a fetch"):
        _unpack_commit(app, taking)


def _unpack_commit(app: App, taking: Sequence[str]) -> None:
    """Unpack the wanted commit of a repository; replace a damaged copy. See `export`."""
    mirror = app.at.mirror
    aside = mirror.with_name(f"{mirror.name}.damaged")
    trees.remove(aside)  # of a run that was killed
    try:
        export(app, mirror, taking)
    except DamagedCopy as failure:
        app.progress.say(f"this host's copy of the repository is damaged, so it is fetched anew. {failure}")
        mirror.rename(aside)
        try:
            export(app, mirror, taking)
        except Failed:
            trees.remove(mirror)
            aside.rename(mirror)
            raise
        trees.remove(aside)


def of_source(app: App, folder: Path, name: str, subdir: str | None = None) -> bytes | None:
    """Content of a file of a source; None if there is no such file.

    + folder: has the source
    + subdir: the file's folder below it; by default the app's

    Raises Strange if it isn't a regular file, or too large.
    """
    subdir = app.wanted["source"]["subdir"] if subdir is None else subdir
    return trees.read(folder, Path(subdir) / name)


def content_of(app: App, folder: Path) -> Content:
    """Gives the content of a source's file by its path there; None if there is no such file; see `of_source`."""

    def content(path: str) -> bytes | None:
        return of_source(app, folder, path, "")

    return content


def as_builder(app: App) -> list[str]:
    """The beginning of a command that runs as the app's builder; for code of the app use builder.py."""
    return ["setpriv", f"--reuid={app.at.builder}", f"--regid={app.at.builder}", "--clear-groups", "--no-new-privs"]


def export(app: App, mirror: Path, taking: Sequence[str]) -> None:
    """Unpack the wanted commit of a repository; fetch it if the mirror doesn't have it.

    + taking: the command that reads a tar of it

    Raises DamagedCopy if the mirror can't be read.
    """
    source, run = app.wanted["source"], app.system.run
    # A fetch that has become too slow ends. Large files stay out of memory. Nothing continues in the background, so any
    # lock that is there is left from a killed fetch.
    options = ("http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "core.bigFileThreshold=8m", "gc.autoDetach=false")
    git = ["git", "-C", str(mirror), *(word for each in options for word in ("-c", each))]
    known = (mirror / "HEAD").exists() and run(*git, "remote", "get-url", "origin", check=False).output.strip()
    if known != source["url"]:
        trees.remove(mirror)
        run("git", "init", "--quiet", "--bare", str(mirror))
        run(*git, "remote", "add", "origin", "--", source["url"])
    present = [*git, "cat-file", "-e", source["commit"] + "^{commit}"]
    if run(*present, check=False).code != 0:
        for left in [*mirror.glob("*.lock"), *mirror.glob("refs/**/*.lock")]:  # of a fetch that was killed
            left.unlink()
        _fetch(app, git)
    if run(*present, check=False).code != 0:
        raise Failed(f"Commit {source['commit']} is on no branch and no tag of {source['url']}.")
    (mirror / "info").mkdir(exist_ok=True)
    (mirror / "info/attributes").write_text(sources.ATTRIBUTES)
    if not sources.survey(git, source["commit"]):
        raise DamagedCopy(f"`git ls-tree` of {source['commit']} failed.")
    try:
        with sources.exported(git, source["commit"]) as archive:
            done = run(*taking, stdin=archive, check=False)
    except sources.Incomplete as incomplete:
        raise DamagedCopy(str(incomplete)) from incomplete
    if done.code != 0:
        raise Failed(f"`{taking[0]}` ended with {done.code}:\n{tail(done.output)}")


def _fetch(app: App, git: Sequence[str]) -> None:
    """Fetch the wanted commit into the mirror, or else all branches and tags."""
    source = app.wanted["source"]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    if ssh := source.get("ssh"):
        environment |= {"GIT_SSH_COMMAND": ssh}
    # Tags with force: a moved tag would end the fetch.
    everything = ["--prune", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    # Alone if it was looked up from a branch or a tag. A commit that somebody named must be on a branch or a tag: some
    # servers also give commits of strangers' forks.
    # A project may take its version from the tags before the commit, which come with it.
    alone = ["origin", f"+{source['commit']}:refs/slipway/wanted"]
    # A huge repository ends at three quarters of the free space; git usually writes one file.
    bound = f"--fsize={room.free(app.system.layout.cache)[0] * 3 // 4}"
    named = app.request.get("ref", source["commit"]) == source["commit"]
    for refs in [everything] if named else [alone, everything]:
        command = ["prlimit", bound, *git, "fetch", *refs]
        heard = app.progress.heard
        done = app.system.run(*command, check=False, env=environment, seconds=FETCH_SECONDS, heard=heard)
        if done.code == 0:  # not every server gives a commit by its name
            break
    if done.code != 0:
        failure = DamagedCopy if DAMAGED_COPY.search(done.output) else Failed
        large = "\nIt takes more than three quarters of what is free on the disk." if TOO_LARGE in done.output else ""
        raise failure(f"{source['url']} can't be fetched:\n{tail(done.output)}{large}")


def store(app: App, path: Path, archive: str) -> None:
    """Store the archive of a request.

    + path: where to
    + archive: a tar.gz in base64
    """
    import base64

    # Two processes may store the same one. The name has the process id, so that heal.py removes it after a kill.
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.touch(0o600)
    with partial.open("wb") as file:
        file.write(base64.b64decode(archive))
        file.flush()
        app.system.sync(file.fileno())
    partial.rename(path)
