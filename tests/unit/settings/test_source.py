"""What a local folder becomes as a release's source: the same files, and the same bytes each time."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

from slipway.settings.folder import Source, SourceError, pack


def git(folder: Path, *arguments: str) -> None:
    """Run git in `folder`, apart from the settings of whoever runs the tests."""
    environment = os.environ | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True, env=environment)


def write(folder: Path, *names: str) -> None:
    """Files whose content is their name."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def members(archive: bytes) -> dict[str, tarfile.TarInfo]:
    """Name → entry of an archive."""
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        return {info.name: info for info in opened}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that is in no repository."""
    made = tmp_path / "project"
    write(made, "pyproject.toml", "notes/main.py", "static/app.js")
    return made


@pytest.fixture
def repository(folder: Path) -> Path:
    """The same as a git repository, with nothing committed yet."""
    git(folder, "init", "--quiet")
    return folder


def test_every_file_is_packed_with_its_content(folder: Path) -> None:
    archive = pack(folder)
    assert list(members(archive)) == ["notes/main.py", "pyproject.toml", "static/app.js"]
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as opened:
        for name in opened.getnames():
            content = opened.extractfile(name)
            assert content is not None and content.read() == name.encode()


def test_the_same_files_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    before = pack(folder)
    other = tmp_path / "elsewhere"
    write(other, "static/app.js", "pyproject.toml", "notes/main.py")  # made in another order
    for path in other.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert pack(other) == before


def test_the_time_of_packing_does_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(folder)
    monkeypatch.setattr(time, "time", lambda: 2_000_000_000.0)
    assert pack(folder) == before


@pytest.mark.parametrize("change", ["content", "name", "mode", "new"])
def test_every_change_gives_other_bytes(folder: Path, change: str) -> None:
    before = pack(folder)
    path = folder / "notes/main.py"
    if change == "content":
        path.write_text("notes/main.Py")
    elif change == "name":
        path.rename(folder / "notes/other.py")
    elif change == "mode":
        path.chmod(0o755)
    else:
        write(folder, "another")
    assert pack(folder) != before


def test_nothing_of_the_operator_is_packed(folder: Path) -> None:
    for info in members(pack(folder)).values():
        assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0), info.name


def test_the_executable_bit_is_kept(folder: Path) -> None:
    write(folder, "run.sh")
    (folder / "run.sh").chmod(0o744)
    (folder / "pyproject.toml").chmod(0o606)
    modes = {name: info.mode for name, info in members(pack(folder)).items()}
    assert (modes["run.sh"], modes["pyproject.toml"]) == (0o755, 0o644)


LEFT_OUT = (
    ".env",
    ".venv/bin/python",
    "notes/__pycache__/main.cpython-311.pyc",
    "node_modules/x/index.js",
    ".ruff_cache/x",
    "notes/.DS_Store",
)


@pytest.mark.parametrize("tracked", [False, True])
def test_what_is_never_part_of_a_release(folder: Path, tracked: bool) -> None:
    before = pack(folder)
    write(folder, *LEFT_OUT)
    git(folder, "init", "--quiet")
    if tracked:
        git(folder, "add", "--force", ".")
    assert list(members(pack(folder))) == list(members(before))
    assert pack(folder) == before


def test_what_is_never_part_of_a_release_outside_of_git(folder: Path) -> None:
    before = pack(folder)
    write(folder, *LEFT_OUT)
    assert pack(folder) == before


def test_names_that_only_look_like_it_are_kept(folder: Path) -> None:
    write(folder, ".env.example", ".gitignore", "environment/x.py", "venv.py")
    assert {".env.example", ".gitignore", "environment/x.py", "venv.py"} <= members(pack(folder)).keys()


def test_ignored_files_stay_behind_and_new_ones_come_along(repository: Path) -> None:
    write(repository, "notes.sqlite", "build/out.js", "notes/new.py")
    (repository / ".gitignore").write_text("*.sqlite\nbuild/\n")
    git(repository, "add", "pyproject.toml")
    assert list(members(pack(repository))) == [
        ".gitignore",
        "notes/main.py",
        "notes/new.py",
        "pyproject.toml",
        "static/app.js",
    ]


def test_the_working_copy_counts_and_not_the_commit(repository: Path) -> None:
    git(repository, "add", ".")
    write(repository, "staged-and-gone")
    git(repository, "add", ".")
    (repository / "staged-and-gone").unlink()
    before = pack(repository)
    assert "staged-and-gone" not in members(before)
    (repository / "pyproject.toml").write_text("edited")
    assert pack(repository) != before


def test_a_subfolder_of_a_repository(repository: Path) -> None:
    write(repository, "apps/notes/pyproject.toml", "apps/notes/debug.log", "apps/wiki/pyproject.toml")
    (repository / ".gitignore").write_text("*.log\n")
    assert list(members(pack(repository / "apps/notes"))) == ["pyproject.toml"]


def test_a_name_with_spaces_and_letters_outside_ascii(repository: Path) -> None:
    write(repository, "static/größe 1.txt")
    assert "static/größe 1.txt" in members(pack(repository))


@pytest.mark.parametrize("in_git", [False, True])
def test_symbolic_links_stay_links(folder: Path, in_git: bool) -> None:
    (folder / "inside").symlink_to("notes/main.py")
    (folder / "of-a-folder").symlink_to("notes")
    (folder / "notes/up").symlink_to("../static/./app.js")
    (folder / "dangling").symlink_to("nowhere")
    if in_git:
        git(folder, "init", "--quiet")
    links = {name: info.linkname for name, info in members(pack(folder)).items() if info.issym()}
    assert links == {
        "inside": "notes/main.py",
        "of-a-folder": "notes",
        "notes/up": "../static/app.js",
        "dangling": "nowhere",
    }


@pytest.mark.parametrize("in_git", [False, True])
@pytest.mark.parametrize(
    "target", ["../outside/secret.txt", "{outside}", "{folder}/notes/main.py", "notes/../../x", "loop"]
)
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, tmp_path: Path, in_git: bool, target: str) -> None:
    write(tmp_path, "outside/secret.txt")
    target = target.format(outside=tmp_path / "outside", folder=folder)
    (folder / "loop").symlink_to(target)
    if in_git:
        git(folder, "init", "--quiet")
    with pytest.raises(SourceError, match=r"relative link to a file of the source$") as told:
        pack(folder)
    assert str(told.value).startswith(f"{folder / 'loop'} is a link to {target}, which isn't inside of the source")


def test_a_link_that_leaves_by_another_link_is_refused(folder: Path) -> None:
    (folder / "here").symlink_to(".")
    (folder / "out").symlink_to("here/../x")
    with pytest.raises(SourceError, match=r"out is a link to here/\.\./x"):
        pack(folder)


def test_what_is_no_file_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "notes/pipe")
    with pytest.raises(SourceError) as told:
        pack(folder)
    assert str(told.value) == (
        f"{folder / 'notes/pipe'} is a named pipe, which a release can't hold; remove it, or let git ignore it"
    )
    (folder / "notes/pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
    with pytest.raises(SourceError, match="s is a socket, which a release can't hold"):
        pack(folder)


def test_a_tracked_file_that_became_a_pipe_is_refused(repository: Path) -> None:
    git(repository, "add", ".")
    (repository / "notes/main.py").unlink()
    os.mkfifo(repository / "notes/main.py")
    with pytest.raises(SourceError, match=r"main\.py is a named pipe"):
        pack(repository)


PEM = "-----BEGIN {}PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END {}PRIVATE KEY-----\n"
SECRETS = {
    ".env.production": "A=1",
    ".envrc": "export A=1",
    "prod.env": "A=1",
    "config/.env.local": "A=1",
    ".envs/.production/.django": "A=1",
    ".ssh/config": "Host x",
    "id_rsa": "x",
    "keys/id_ed25519": "x",
    "id_ecdsa_sk": "x",
    "tls/site.key": "x",
    "store.p12": "x",
    "store.PFX": "x",
    "vault.kdbx": "x",
    ".netrc": "machine x",
    ".pgpass": "x",
    ".pypirc": "x",
    ".git-credentials": "https://x",
    "credentials.json": "{}",
    "secrets.yaml": "a: b",
    "terraform.tfstate": "{}",
    "site.pem": PEM.format("", ""),
    "deploy": PEM.format("OPENSSH ", "OPENSSH "),
    "old.txt": "notes\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n",
    "service.json": json.dumps({"type": "service_account", "private_key": PEM.format("", "")}),
    "putty.txt": "PuTTY-User-Key-File-3: ssh-ed25519\n",
    "web/.npmrc": "//registry.npmjs.org/:_authToken=npm_0123456789\n",
    ".yarnrc.yml": "npmAuthToken: 0123456789\n",
}
"""File that looks like a secret → its content."""
HARMLESS = {
    ".env.example": "A=",
    ".env.production.sample": "A=",
    ".env.template": "A=",
    "sample.env": "A=",
    ".env.dist": "A=",
    "id_rsa.pub": "ssh-rsa AAAA",
    "site.crt": "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n",
    "public.pem": "-----BEGIN PUBLIC KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n",
    "keys.py": 'HEADER = "-----BEGIN PRIVATE KEY-----"\n_password = None\n',
    ".npmrc": "registry=https://npm.example.com\n_authToken=${NPM_TOKEN}\n",
    "keyboard.md": "keys",
    "environment/main.py": "x",
    "secrets.py": "import secrets",
    "large.txt": "x" * 70_000,
}


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)


@pytest.mark.parametrize("in_git", [False, True])
def test_what_looks_like_a_secret_stays_at_home(folder: Path, in_git: bool) -> None:
    fill(folder, SECRETS | HARMLESS)
    if in_git:
        git(folder, "init", "--quiet")
    before = {"notes/main.py", "pyproject.toml", "static/app.js"}
    assert members(pack(folder)).keys() == before | HARMLESS.keys()
    assert Source(folder).notes == [
        f"{folder / name} looks like a secret and isn't tracked by git: it stays here, in no release. "
        "If the app needs its values, name it in env_file."
        for name in sorted(SECRETS, key=Path)
    ]


def test_what_git_tracks_is_sent_and_told(repository: Path) -> None:
    fill(repository, SECRETS | HARMLESS)
    git(repository, "add", "--force", ".")
    write(repository, ".env.new")
    assert SECRETS.keys() <= members(pack(repository)).keys() and ".env.new" not in members(pack(repository))
    kept, *sent = Source(repository).notes
    assert kept.startswith(f"{repository / '.env.new'} looks like a secret and isn't tracked by git")
    assert sent == [
        f"{repository / name} looks like a secret, and is sent, since git tracks it. If it is one: git rm --cached, "
        "and let env_file give it to the app."
        for name in sorted(SECRETS, key=Path)
    ]


def test_nothing_is_said_of_what_git_ignores(repository: Path) -> None:
    write(repository, ".env.production")
    (repository / ".gitignore").write_text(".env.*\n")
    assert Source(repository).notes == [] and ".env.production" not in members(pack(repository))


def test_the_inventory_s_own_secrets_stay_at_home(folder: Path) -> None:
    write(folder, "deploy/settings.txt")
    source = Source(folder, [folder / "deploy/settings.txt", folder.parent / "elsewhere"])
    assert "deploy/settings.txt" not in members(source.pack()) and "settings.txt looks" in source.notes[0]


def test_nothing_is_said_of_what_a_setting_names(repository: Path) -> None:
    """It would be told to name a file that it names."""
    write(repository, "conf/production.env", "conf/staging.env", ".env", "deploy/settings.txt")
    (repository / "conf/login.key").symlink_to("../deploy/settings.txt")
    named = {repository / name for name in ("conf/production.env", ".env", "deploy/settings.txt")}
    source = Source(repository, [repository / "deploy/settings.txt"], named)
    assert [note.partition(" ")[0] for note in source.notes] == [str(repository / "conf/staging.env")]
    assert not {"conf/production.env", ".env", "deploy/settings.txt"} & members(source.pack()).keys()
    git(repository, "add", "--force", ".")
    told = f"{repository / 'conf/production.env'} looks like a secret, and is sent, since git tracks it. "
    assert told + "If it is one: git rm --cached." in Source(repository, (), named).notes


@pytest.mark.parametrize("tracked", [False, True])
def test_an_env_file_that_is_never_sent_is_named(repository: Path, tracked: bool) -> None:
    write(repository, ".env", "web/.env", ".venv/.env", "node_modules/x/.env", "old/.env/bin/python")
    if tracked:
        git(repository, "add", "--force", ".")
    assert Source(repository).notes == [
        f"{repository / name} is never sent, tracked by git or not: it stays here, in no release. If the app needs its "
        "values, name it in env_file."
        for name in (".env", "web/.env")
    ]


def test_without_git_every_file_is_packed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = pack(folder)
    monkeypatch.setenv("PATH", "")
    assert pack(folder) == before


def test_an_empty_folder(tmp_path: Path) -> None:
    assert members(pack(tmp_path)) == {}


# ── a folder that others wrote ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which each program that a repository names leaves its name; nothing of the operator's is set."""
    made = tmp_path / "marks"
    made.mkdir()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    return made


NAMED = (
    *(
        "core.fsmonitor",
        "core.sshCommand",
        "core.editor",
        "core.pager",
        "core.askPass",
        "core.gitProxy",
        "pager.ls-files",
    ),
    *("diff.external", "gpg.program", "credential.helper", "sequence.editor", "uploadpack.packObjectsHook"),
    *("filter.x.clean", "filter.x.smudge", "filter.x.process", "diff.x.textconv", "diff.x.command", "merge.x.driver"),
)
"""Settings by which git runs a program."""


@pytest.mark.parametrize("where", ["config", "include", "worktree", "above", "bare"])
def test_no_program_that_a_folder_names_is_run(repository: Path, marks: Path, tmp_path: Path, where: str) -> None:
    (repository / ".gitattributes").write_text("* filter=x diff=x merge=x\n")
    git(repository, "add", ".")
    folder, file = repository, repository / ".git/config"
    if where == "include":
        file = repository / "more.config"
        git(repository, "config", "include.path", "../more.config")
    elif where == "worktree":
        git(repository, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "one")
        folder = tmp_path / "other"
        git(repository, "worktree", "add", "--quiet", str(folder))
    elif where == "above":
        folder = repository / "notes"
    for name in NAMED:
        git(repository, "config", "--file", str(file), name, f"touch {marks}/{name}; false")
    git(repository, "config", "--file", str(file), "alias.ls-files", f"!touch {marks}/alias")
    git(repository, "config", "--file", str(file), "core.hooksPath", str(marks / "hooks"))
    for hooks in (marks.parent / "hooks", repository / ".git/hooks"):
        hooks.mkdir(exist_ok=True)
        for name in ("post-index-change", "fsmonitor-watchman", "post-checkout", "query-watchman"):
            (hooks / name).write_text(f"#!/bin/sh\ntouch {marks}/{name}\n")
            (hooks / name).chmod(0o755)
    git(repository, "config", "--file", str(file), "core.hooksPath", str(marks.parent / "hooks"))
    if where == "bare":  # the folder itself is what git takes for a repository
        folder = tmp_path / "bare"
        (repository / ".git").rename(folder)
        git(tmp_path, "config", "--file", str(folder / "config"), "core.worktree", str(repository))
        write(folder, "app.py")
    (folder / "new.py").touch()
    assert where == "bare" or Path("new.py") in Source(folder).files
    with contextlib.suppress(SourceError):
        pack(folder)
    assert list(marks.iterdir()) == []


def test_what_a_partial_clone_lacks_is_not_fetched(repository: Path, marks: Path) -> None:
    """Git would fetch a .gitignore that the work tree lacks, by whatever the repository says."""
    write(repository, "notes/.gitignore")
    git(repository, "add", ".")
    git(repository, "update-index", "--skip-worktree", "notes/.gitignore")
    (repository / "notes/.gitignore").unlink()
    for name, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.promisor": "true",
        "remote.origin.url": f"ext::sh -c touch% {marks}/fetched",
        "remote.origin.uploadpack": f"touch {marks}/uploadpack; false",
        "protocol.ext.allow": "always",
        "protocol.allow": "always",
    }.items():
        git(repository, "config", name, value)
    blob = subprocess.run(
        ["git", "-C", repository, "rev-parse", ":notes/.gitignore"], check=True, capture_output=True, text=True
    ).stdout.strip()
    (repository / ".git/objects" / blob[:2] / blob[2:]).unlink()
    with contextlib.suppress(SourceError):  # as some versions of git end then
        assert Path("pyproject.toml") in Source(repository).files
    assert list(marks.iterdir()) == []


def test_a_submodule_as_a_source_is_an_ordinary_folder(repository: Path, marks: Path, tmp_path: Path) -> None:
    git(repository, "add", ".")
    git(repository, "-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "one")
    above = tmp_path / "above"
    above.mkdir()
    git(above, "init", "--quiet")
    git(above, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "part")
    assert Source(above / "part").files == Source(repository).files
    assert pack(above / "part") == pack(repository)


def test_the_repository_is_the_folders_whoever_asks(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook of git's, from which a plan may be made, names its own repository."""
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "--quiet")
    git(repository, "add", ".")
    before = pack(repository)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert pack(repository) == before


def test_a_git_that_does_not_end_is_ended(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that reads a pipe where its settings should be."""
    monkeypatch.setattr("slipway.settings.folder._SECONDS", 0.5)
    os.mkfifo(repository / "wait")
    git(repository, "config", "core.excludesFile", str(repository / "wait"))
    with pytest.raises(SourceError, match=r"git didn't list its files within 0\.5 s"):
        pack(repository)


@pytest.mark.parametrize(
    "name",
    [
        ".env.\nfoo",
        ".env\n",
        "a\nb.key",
        "id_rsa\n",
        " .netrc",
        ".envs/x\ny",
        ".env.\n/x",
        ".env.example\nx",
    ],
)
def test_a_line_feed_in_its_name_hides_no_secret(folder: Path, name: str) -> None:
    write(folder, name)
    source = Source(folder)
    assert Path(name) not in source.files
    told = [note for note in source.notes if "looks like a secret" in note]
    assert len(told) == 1 and "\n" not in told[0]


def test_a_name_forges_no_line(folder: Path) -> None:
    os.mkfifo(folder / "x\nRelease | forged")
    with pytest.raises(SourceError) as told:
        pack(folder)
    assert "x\\x0aRelease | forged is a named pipe" in str(told.value) and "\n" not in str(told.value)
    (folder / "x\nRelease | forged").unlink()
    (folder / "link").symlink_to("/etc/\nRelease | forged\x1b[2J")
    with pytest.raises(SourceError) as told:
        pack(folder)
    assert "/etc/\\x0aRelease | forged\\x1b[2J" in str(told.value) and "\n" not in str(told.value)


def test_what_git_says_of_a_folder_is_one_line(repository: Path) -> None:
    (repository / ".git/config").write_text('[include]\n\tpath = "a\\nRelease | forged\\u001b\n')
    with pytest.raises(SourceError) as told:
        pack(repository)
    assert "git can't list its files" in str(told.value) and "\n" not in str(told.value)


def test_settings_of_npm_are_read_quickly(folder: Path) -> None:
    (folder / ".npmrc").write_text("\n" * 65_000)
    began = time.monotonic()
    assert Path(".npmrc") in Source(folder).files
    assert time.monotonic() - began < 1
