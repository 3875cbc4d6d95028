"""Sources: local folders, git repositories and workspaces, at any ref; and those that can't be released."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e._driver import Host
from tests.e2e.apps import HERE, facts, leftovers, make_tiny, make_works, record, set_hooks, settings, status
from tests.e2e.conftest import MakeHost

pytestmark = [pytest.mark.story, pytest.mark.slow]

QUICK = {"watch": 0, "keep_warm": 0}
"""Settings of apps whose releases are no matter here but for their source."""
TOKEN = "t0ken-for-the-index-8812"
SERVER = "127.0.0.1"
"""Address of the git server: the host itself, over SSH."""


@dataclass
class Origin:
    """A git repository on the host, reached over SSH as the user git, and a clone of it here."""

    host: Host
    clone: Path
    name: str
    key: Path
    known: dict[str, str] = field(default_factory=dict)
    """Commits by a name of the test's."""

    def git(self, *arguments: str) -> str:
        """Run git in the clone; returns its output."""
        ssh = f"ssh -i {self.key} -p {self.host.target['ssh']['port']} -o IdentitiesOnly=yes -o LogLevel=ERROR"
        ssh += " -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        identity = {f"GIT_{who}_EMAIL": "dev@example.com" for who in ("AUTHOR", "COMMITTER")}
        identity |= {f"GIT_{who}_NAME": "Dev" for who in ("AUTHOR", "COMMITTER")}
        environment = os.environ | identity | {"GIT_SSH_COMMAND": ssh, "GIT_CONFIG_GLOBAL": "/dev/null"}
        done = subprocess.run(
            ["git", "-C", str(self.clone), *arguments],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def commit(self, what: str) -> str:
        """Commit all of the clone; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", what)
        self.known[what] = self.git("rev-parse", "HEAD")
        return self.known[what]

    def push(self, *refs: str) -> None:
        """Push refs, the branch main if none is given."""
        self.git("push", "--quiet", "--force", f"git@{SERVER}:{self.name}.git", *(refs or ("main",)))

    @classmethod
    def make(cls, host: Host, clone: Path, key: Path) -> Origin:
        """Make the repository on the host, and the folder a clone of it, with one commit on main."""
        origin = cls(host, clone, clone.name, key)
        host.ssh(f"runuser -u git -- git init --quiet --bare --initial-branch=main /home/git/{clone.name}.git")
        origin.git("init", "--quiet", "--initial-branch=main")
        origin.commit("first")
        origin.push()
        return origin


@dataclass
class Place:
    """The host of this story and where its sources are."""

    host: Host
    mono: Path
    works: Path

    def seen(self, app: str) -> dict[str, Any]:
        """What an app answers."""
        return facts(self.host, domain=f"{app}.test")

    def commit(self, app: str) -> str:
        """The commit of the release that serves."""
        return str(status(self.host, app)["commit"])


@pytest.fixture(scope="module")
def place(make_host: MakeHost) -> Place:
    """A host with three apps from local folders; nothing is deployed yet."""
    host = make_host("source", "debian13", ())
    mono = host.folder / "mono"
    make_tiny(mono / "services/tiny", version="mono")
    works = make_works(host.folder / "works", version="works")
    host.slipway["apps"] = {
        "plain": settings(mono / "services/tiny", "plain.test", **QUICK),
        "mono": settings(mono, "mono.test", python=python(host), **QUICK),
        "member": settings(works, "member.test", build_env=["UV_INDEX_INTERNAL_PASSWORD"], **QUICK),
    }
    host.app("mono")["source"]["subdir"] = "services/tiny"
    host.app("member")["source"]["subdir"] = "apps/tiny"
    host.app("member")["env_file"] = host.file("member.env", f"UV_INDEX_INTERNAL_PASSWORD={TOKEN}\n")
    git_folder(mono)
    return Place(host, mono, works)


def python(host: Host) -> str:
    """The target's Python to its patch number."""
    return str(host.target["python"]["version"])


def make_key(path: Path) -> None:
    """Make an SSH key pair without passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def git_folder(mono: Path) -> None:
    """Make the folder a git repository, with files of every kind in it."""
    tiny = mono / "services/tiny"
    subprocess.run(["git", "init", "--quiet", str(mono)], check=True)
    (mono / ".gitignore").write_text("*.log\n/services/tiny/ignored/\n")
    (tiny / "gone.txt").write_text("soon deleted")
    (tiny / ".env").write_text("SECRET=of-the-developer")
    (mono / "other.txt").write_text("beside the app")
    subprocess.run(["git", "-C", str(mono), "add", "--all", "--force"], check=True)
    (tiny / "gone.txt").unlink()
    (tiny / "debug.log").write_text("ignored")
    (tiny / "ignored").mkdir()
    (tiny / "ignored/big.bin").write_text("ignored")
    (tiny / "untracked ünï.txt").write_text("new")
    (tiny / "run.sh").write_text("#!/bin/sh\n")
    (tiny / "run.sh").chmod(0o755)
    (tiny / "link").symlink_to("run.sh")
    (tiny / ".venv").mkdir()
    (tiny / ".venv/pyvenv.cfg").write_text("not to be taken over")


def test_local_folders(place: Place) -> None:
    """A folder, a subfolder of a repository and a member of a workspace are released; only what git would take goes."""
    host = place.host
    host.deploy()
    assert [place.seen(app)["version"] for app in ("plain", "mono", "member")] == ["mono", "mono", "works"]
    for app in ("plain", "mono", "member"):
        assert leftovers(host, app) == []
    assert place.seen("mono")["cwd"] == f"/srv/mono/releases/{host.release('mono')}/services/tiny"
    assert place.seen("member")["cwd"] == f"/srv/member/releases/{host.release('member')}/apps/tiny"
    listing = "find . -path ./.venv -prune -o -path '*/__pycache__*' -o ! -type d -printf '%m %P>%l\\n'"
    assert set(host.ssh(f"cd /srv/plain/current/ && {listing}").splitlines()) == {
        *(f"640 {name}>" for name in ("pyproject.toml", "uv.lock", "untracked ünï.txt")),
        *(f"640 tiny/{name}>" for name in ("__init__.py", "hooks.json", "main.py")),
        "750 run.sh>",
        "777 link>run.sh",
    }
    assert host.run("ls /srv/mono/current/other.txt /srv/mono/current/.gitignore").returncode == 0
    assert host.ssh("find /srv/*/releases -name .git -o -name .env -o -name '*.log' -o -name ignored") == ""
    host.converged()


def test_build_environment_reaches_only_the_build(place: Place) -> None:
    """`uv sync` gets the names of build_env, as a user without rights; the app that didn't ask for them doesn't."""
    built = place.seen("member")["built"]
    assert built["token"] == hashlib.sha256(TOKEN.encode()).hexdigest()
    assert built["user"] == int(place.host.ssh("id -u _member")) != 0
    found = place.host.ssh(f"grep -rlF {TOKEN} /srv /opt /var/cache /var/lib/slipway /etc", check=False).split()
    environments = {"/etc/member/env", f"/etc/member/releases/{place.host.release('member')}.env"}
    assert set(found) == {*environments, "/etc/member/build.env"}
    assert place.host.ssh("stat -c '%a %U' /etc/member/build.env") == "600 root"


def test_failed_build_hides_what_it_was_given(place: Place) -> None:
    """A build that fails tells uv's words without the secret in them, and changes nothing."""
    host, before = place.host, place.host.release("member")
    (place.works / "libs/built/fail").touch()
    run = host.deploy("-vvv", check=False)
    assert run.code != 0
    run.says("failed at build (2 of 9)", "`uv sync --locked` failed", "the index refused ***")
    run.says(f"{before} keeps serving")
    assert TOKEN not in run.output
    assert TOKEN not in host.ssh("cat /var/lib/slipway/member/*.json")
    (place.works / "libs/built/fail").unlink()
    assert place.seen("member")["release"] == before
    assert leftovers(host, "member") == []


def test_git_over_ssh_and_file(place: Place) -> None:
    """A branch by a deploy key, an annotated tag with a pinned host key, a commit from a folder of the host."""
    host = place.host
    key = host.folder / "deploy_key"
    make_key(key)
    host.ssh("useradd --create-home --shell /bin/sh git; install -d -m 700 -o git /home/git/.ssh; chmod 755 /home/git")
    keys = "/home/git/.ssh/authorized_keys"
    host.ssh(f"cat >{keys}; chown git: {keys}", stdin=key.with_suffix(".pub").read_text())
    make_tiny(host.folder / "trunk/services/tiny", version="main")
    trunk = Origin.make(host, host.folder / "trunk", key)
    make_works(host.folder / "yard", version="tagged")
    yard = Origin.make(host, host.folder / "yard", key)
    yard.git("tag", "--annotate", "--message", "one", "v1.0")
    set_hooks(yard.clone / "apps/tiny", version="after the tag")
    yard.commit("second")
    yard.push("main", "v1.0")
    pinned = host.file("pinned", f"{SERVER} {host.ssh('cat /etc/ssh/ssh_host_ed25519_key.pub')}\n")
    access = {"deploy_key": "deploy_key"}
    ssh = {"git": f"git@{SERVER}:trunk.git", "ref": "main", "subdir": "services/tiny"} | access
    tag = {"git": f"ssh://git@{SERVER}/home/git/yard.git", "ref": "v1.0", "subdir": "apps/tiny"} | access
    tag["known_hosts"] = pinned
    # Git reads a folder of the host only for its owner, here root.
    host.ssh("cp -r /home/git/yard.git /srv/yard.git")
    commit = {"git": "file:///srv/yard.git", "ref": yard.known["second"], "subdir": "apps/tiny"}
    host.slipway["apps"] |= {
        "branch": settings(ssh, "branch.test", **QUICK),
        "tag": settings(tag, "tag.test", **QUICK),
        "commit": settings(commit, "commit.test", **QUICK),
    }
    del host.slipway["apps"]["plain"], host.slipway["apps"]["mono"]
    host.deploy()
    assert [place.seen(app)["version"] for app in ("branch", "tag", "commit")] == ["main", "tagged", "after the tag"]
    commits = [trunk.known["first"], yard.known["first"], yard.known["second"]]
    assert [place.commit(app) for app in ("branch", "tag", "commit")] == commits
    for app in ("branch", "tag", "commit"):
        assert leftovers(host, app) == []
        assert host.release(app).endswith("-" + place.commit(app)[:7])
    # The first key that was seen is kept; the pinned file is as given.
    assert "ssh-ed25519" in host.ssh("cat /etc/branch/known_hosts*")
    assert host.ssh("cat /etc/tag/known_hosts") == (host.folder / "pinned").read_text().strip()
    assert host.ssh("stat -c '%a %U' /etc/branch/deploy_key") == "600 root"
    assert host.ssh("find /srv/branch /srv/tag -name .git") == ""
    host.converged()


def origin(place: Place, name: str) -> Origin:
    """A repository that `test_git_over_ssh_and_file` made."""
    host = place.host
    return Origin(host, host.folder / name, name, host.folder / "deploy_key")


def test_branch_that_moves_is_released(place: Place) -> None:
    """A commit on the branch makes a release of that app alone; the same branch again makes none."""
    host, trunk = place.host, origin(place, "trunk")
    set_hooks(trunk.clone / "services/tiny", version="moved")
    commit = trunk.commit("moves")
    trunk.push()
    run = host.deploy()
    assert run.changed == ["Release | Release branch"]
    assert (place.seen("branch")["version"], place.commit("branch")) == ("moved", commit)
    trunk.git("branch", "feature/same", "main")
    trunk.push("feature/same")
    host.app("branch")["source"]["ref"] = "feature/same"
    host.converged()
    host.app("branch")["source"]["ref"] = "main"


def test_tag_that_moves_is_released(place: Place) -> None:
    """A tag that was set anew is a new source, and no tag that moved keeps other refs from being fetched."""
    host, yard = place.host, origin(place, "yard")
    yard.git("tag", "--force", "--annotate", "--message", "again", "v1.0")
    yard.push("v1.0")
    run = host.deploy()
    assert run.changed == ["Release | Release tag"]
    assert (place.seen("tag")["version"], place.commit("tag")) == ("after the tag", yard.git("rev-parse", "HEAD"))


NOT_FOUND = "can't be looked up from the host"
NOWHERE = "0123456789abcdef0123456789abcdef01234567"
REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "no such branch": ({"ref": "mian"}, ["branch: mian of", NOT_FOUND, "no such branch or tag"]),
    "no such commit": ({"ref": NOWHERE}, [f"Commit {NOWHERE} is on no branch and no tag of git@{SERVER}:trunk.git"]),
    "no such repository": ({"git": f"git@{SERVER}:trunc.git"}, [NOT_FOUND, "does not appear to be a git repository"]),
    "a key without access": ({"deploy_key": "other_key"}, [NOT_FOUND, "Permission denied"]),
    "another host key": ({"known_hosts": "wrong"}, [NOT_FOUND, "Host key verification failed"]),
    "no such folder": (
        {"subdir": "services/tinny"},
        ["There is no pyproject.toml and no requirements.txt in services/tinny", "source.subdir"],
    ),
}
"""What a git source can get wrong: changes of it, and what is said."""


@pytest.mark.parametrize("why", REFUSED)
def test_wrong_git_source_changes_nothing(place: Place, why: str) -> None:
    """The run fails with the cause, and what serves stays."""
    host, before = place.host, place.host.release("branch")
    change, says = REFUSED[why]
    if not (host.folder / "other_key").exists():
        make_key(host.folder / "other_key")
        host.file("wrong", f"{SERVER} {(host.folder / 'other_key.pub').read_text()}")
    with host.changed({"apps": {"branch": {"source": change}}}):
        run = host.deploy(check=False)
    assert run.code != 0
    run.says(*says, "the release of branch failed")
    assert place.seen("branch")["release"] == before == host.release("branch")
    assert leftovers(host, "branch") == []


def test_source_in_order_again(place: Place) -> None:
    """With the source corrected no release is due; keys are put right."""
    apps = ("branch", "tag", "commit", "member")
    before = [place.host.release(app) for app in apps]
    place.host.deploy()
    assert [place.host.release(app) for app in apps] == before
    place.host.converged()


def test_lock_of_a_git_source_must_fit(place: Place) -> None:
    """A stale lock file is refused by the host before anything is changed; one without gunicorn gets it."""
    host, trunk, before = place.host, origin(place, "trunk"), place.host.release("branch")
    project = trunk.clone / "services/tiny/pyproject.toml"
    good = project.read_text()
    project.write_text(good.replace('"uvloop>=0.23"', '"uvloop>=0.23", "click>=8.5"'))
    trunk.commit("stale")
    trunk.push()
    run = host.deploy(check=False)
    run.says("failed at build (2 of 9)", "The lockfile at `uv.lock` needs to be updated, but `--locked` was provided")
    run.says(f"{before} keeps serving")
    assert record(host, "branch")["step"] == "build"
    project.write_text(good)
    shutil.copytree(HERE / "bare", project.parent, dirs_exist_ok=True)
    trunk.commit("bare")
    trunk.push()
    host.deploy()
    assert host.release("branch") != before
    assert "gunicorn==" in host.ssh("cat /srv/branch/current/.venv/server.txt")
    assert leftovers(host, "branch") == []
    trunk.git("reset", "--quiet", "--hard", "feature/same")
    trunk.push()
    host.deploy()


def test_lock_of_a_local_folder_must_fit(place: Place) -> None:
    """The same of a local folder is refused before the host is touched."""
    host, project = place.host, place.works / "apps/tiny/pyproject.toml"
    good = project.read_text()
    project.write_text(good.replace('"uvloop>=0.23"', '"uvloop>=0.23", "click>=8.5"'))
    host.refused("a uv.lock that fits pyproject.toml", "run uv lock")
    project.write_text(good)
    host.converged()


def test_python_that_cannot_be_had(place: Place) -> None:
    """A Python that the mirror doesn't offer fails with uv's words; what serves stays."""
    host = place.host
    offered = host.target["python"]
    if not offered["downloads_json_url"]:
        pytest.skip("this target has every Python")
    assert place.seen("member")["python"].startswith(offered["version"])
    other = "3.12" if offered["version"] != "3.12" else "3.13"
    with host.changed({"apps": {"member": {"python": other}}}):
        host.refused(f"Install Python {other}", "No download found for request")
    assert place.seen("member")["version"] == "works"
    host.converged()
