"""Fetch: an app's source, from a commit of a repository or from an archive that came with the request."""

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

    from slipway_host.release.app import App

FETCH_SECONDS = 900
LOCK_SECONDS = 2 * FETCH_SECONDS  # for another run or a plan to fetch and unpack
# What git says of a repository that it can't read.
DAMAGED_COPY = re.compile(r"not a git repository|corrupt|is empty|bad object|unable to (read|parse|unpack)|bad config")
TOO_LARGE = f"signal {signal.SIGXFSZ:d}"  # git's words for what ended a part of it


class DamagedCopy(Failed):
    """The copy of a repository can't be read, as after a power cut."""


def fetch(app: App, release: str) -> None:
    """Bring the source into the release's folder, owned by the builder."""
    unpack(app, app.at.folder(release))
    source = app.wanted["source"]
    if source["kind"] == "git":
        app.write_record(release, subject=subjects(app, "-1", source["commit"])[0].partition(" ")[2])


def subjects(app: App, *argv: str) -> list[str]:
    """Lines of `git log` of the source, each as it may be shown: commit and subject."""
    # Its map of names may be as large as whoever committed it liked.
    options = ("-c", "log.mailmap=false", "-c", "log.showSignature=false")
    command = ["git", "-C", str(app.at.mirror), *options, "log", "-z", "--format=%h %s", *argv]
    done = app.system.run(*command, check=False, raw=True)
    told = done.output.strip("\0\n").split("\0") if done.code == 0 else [""]
    return [app.system.hidden.shown(one_line(each)) for each in told]


def unpack(app: App, folder: Path, archive: Path | None = None) -> None:
    """Make a folder of the source, owned by the builder.

    + archive: where an archive lies, if not where `store` keeps those of releases
    """
    source = app.wanted["source"]
    folder.mkdir(mode=0o750, parents=True)
    app.system.chown(folder, app.at.builder, app.at.builder)
    taking = [*as_builder(app), "tar", "-x", "-C", str(folder), "--no-same-owner"]
    if source["kind"] == "archive":
        with sources.plain(archive or app.at.archive(source["commit"])) as tar:
            # -m: the archive has no times, and nginx tells versions of a static file apart by them.
            app.system.run(*taking, "-m", stdin=tar)
        return
    # One at a time: git's own locks would fail one of two that fetch, and one makes a damaged copy anew.
    with app.system.locked(app.at.mirror_lock, LOCK_SECONDS, "a fetch"):
        _unpack_commit(app, taking)


def _unpack_commit(app: App, taking: Sequence[str]) -> None:
    """Unpack the wanted commit of a repository, of which a damaged copy is made anew; see `export`."""
    mirror = app.at.mirror
    try:
        export(app, mirror, taking)
    except DamagedCopy as failure:
        app.progress.say(f"this host's copy of the repository is damaged, so it is fetched anew. {failure}")
        aside = mirror.with_name(f"{mirror.name}.damaged")
        trees.remove(aside)
        mirror.rename(aside)
        try:
            export(app, mirror, taking)
        except Failed:
            trees.remove(mirror)
            aside.rename(mirror)
            raise
        trees.remove(aside)


def of_source(app: App, folder: Path, name: str, subdir: str | None = None) -> bytes | None:
    """Content of a regular file of a source; None if it has none of that name.

    + folder: has the source
    + subdir: the file's folder below it; None is the app's

    Raises Strange for what is no such file, or too large to be read.
    """
    subdir = app.wanted["source"]["subdir"] if subdir is None else subdir
    return trees.read(folder, Path(subdir) / name)


def as_builder(app: App) -> list[str]:
    """The beginning of a command that runs as the app's builder, where it runs no code of the app's; see builder.py."""
    return ["setpriv", f"--reuid={app.at.builder}", f"--regid={app.at.builder}", "--clear-groups", "--no-new-privs"]


def export(app: App, mirror: Path, taking: Sequence[str]) -> None:
    """Unpack the wanted commit of a repository, which is fetched where the mirror of it hasn't that commit.

    + taking: the command that takes a tar of it

    Raises DamagedCopy where the mirror can't be read.
    """
    source, run = app.wanted["source"], app.system.run
    # A line that has become too slow ends the fetch: waiting for it would be for ever. Large files aren't for memory.
    # Nothing works on in the background: whose locks are there, nobody has.
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
    """Bring the wanted commit of the repository into its mirror, or else all branches and tags."""
    source = app.wanted["source"]
    environment = os.environ | {"GIT_TERMINAL_PROMPT": "0"}
    if ssh := source.get("ssh"):
        environment |= {"GIT_SSH_COMMAND": ssh}
    # Tags by force: one that moved, whichever, would end the fetch.
    everything = ["--prune", "origin", "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
    # By itself where it was looked up as that of a branch or a tag: what else is there isn't needed. One that somebody
    # named has to be on one of them, and a server gives those of strangers' copies, too.
    alone = ["--no-tags", "origin", f"+{source['commit']}:refs/slipway/wanted"]
    # A repository without end ends at the disk's last quarter, in one file as a rule.
    bound = f"--fsize={room.free(app.system.layout.cache)[0] * 3 // 4}"
    for refs in [alone, everything] if source.get("ref", source["commit"]) != source["commit"] else [everything]:
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
    """Keep a source that came with a request.

    + path: where the fetch finds it
    + archive: a tar.gz in base64
    """
    import base64

    # Two may bring the same one at a time; what a killed one leaves is named by who wrote it (heal.py).
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.touch(0o600)
    with partial.open("wb") as file:
        file.write(base64.b64decode(archive))
        file.flush()
        app.system.sync(file.fileno())
    partial.rename(path)
