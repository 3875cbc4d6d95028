"""Packs a local folder as the source of a release: the same files always give the same bytes.

What looks like a secret stays here, unless git tracks it: then its author has chosen, and is told.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import stat
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pyinfra.api.exceptions import PyinfraError
from slipway_host.lockfiles import DESCRIBE

from slipway.foreign import one_line

_ENV = ".env"
LEFT_OUT = {
    ".git",
    ".venv",
    "__pycache__",
    "node_modules",
    _ENV,
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".DS_Store",
}
"""Never part of a release, tracked by git or not: what is built anew, and a developer's secrets."""

# A name may have any character but / in it, line feeds too: `.` is any, and \Z the end, which $ isn't.
_EXAMPLE = re.compile(r"(^|[._-])(example|sample|template|dist)([._-]|\Z)")
_SECRET = re.compile(
    r"(?s)\.env.*|.*\.env"
    r"|id_(rsa|dsa|ecdsa|ed25519|xmss)(_sk)?"
    r"|.*\.(key|ppk|p12|pfx|p8|jks|keystore|kdbx?|ovpn|tfstate|tfvars|agekey)"
    r"|\.(netrc|pgpass|pypirc|my\.cnf|htpasswd|dockercfg|git-credentials|s3cfg|boto|vault[-_]pass(word)?(\.txt)?)"
    r"|_netrc|kubeconfig|credentials(\.(json|ya?ml|toml|ini|csv))?|client_secrets?.*\.json"
    r"|(secrets?|service[-_]?account.*)\.(json|ya?ml|toml|ini)"
)
"""Names of files, in lower case, that hold secrets as a rule."""
_SECRET_FOLDER = re.compile(r"(?s)\.envs?([._-].*)?|\.(ssh|gnupg|aws|azure|gcloud|kube|docker)")
_CONTENT = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr])+(?:[A-Za-z0-9+/=]{16}|[A-Z][A-Za-z-]+: )"
    rb"|^PuTTY-User-Key-File-\d"
)
"""A private key in PEM or PuTTY's format, also within JSON."""
_NPM = re.compile(rb"(?im)^[^\S\n]*(?:\S+:)?(?:_auth(?:Token)?|_password|npmAuthToken|npmAuthIdent)\s*[=:]\s*[^\s$]")
"""A token in npm's or Yarn's settings, but one that comes from a variable."""
_SMALL = 65_536
"""Bytes of the largest file whose content is looked at: a private key takes some thousand."""

_OTHERS = "?"
"""Tag of files that git doesn't track (git-ls-files(1), -t)."""
_SECONDS = 120
"""For git to list a folder's files: a million takes some."""
_OWN = {
    "core.fsmonitor": "false",
    "core.hooksPath": os.devnull,
    "core.sshCommand": "false",
    "protocol.allow": "never",
    "submodule.recurse": "false",
}
"""Settings of git's that name a program, and that listing may come to, as they are for us: a folder's own configuration
is part of what others wrote. The others that name one (filters, diff and merge drivers, pager, editor, aliases,
credential helpers) are of commands that Slipway doesn't run in such a folder. What the operator has set for all folders
holds, but for these."""
_ELSEWHERE = {
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE", "GIT_PREFIX"),
    *("GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_SHALLOW_FILE", "GIT_GRAFT_FILE"),
}
"""Variables that name another repository than the folder's: a hook of git's has them."""


class SourceError(PyinfraError):
    """A local folder can't be packed as it is; the message says why and what to do."""


@dataclass(frozen=True)
class Source:
    """A local folder as what a release is made from.

    Raises SourceError where that would leave something out, or take in something, that nobody asked for.
    """

    folder: Path
    secrets: Collection[Path] = ()
    """Paths of files that hold secrets, with any name, such as an app's env_file."""
    named: Collection[Path] = ()
    """Paths of files that settings name: what is done with them is known, and not told. Without links."""
    include: Sequence[str] = ()
    """Files and folders of it that are taken although git ignores them."""

    @cached_property
    def _found(self) -> tuple[list[Path], frozenset[Path] | None]:
        """What git would take (.gitignore counts), or all outside of git; and which of it git tracks."""
        try:
            done = self._git()
        except FileNotFoundError:  # there is no git
            return self._all(), None
        except subprocess.TimeoutExpired:
            raise SourceError(f"{self._named()}: git didn't list its files within {_SECONDS} s") from None
        if done.returncode == 0:
            tagged = {each.partition(" ")[::2] for each in os.fsdecode(done.stdout).split("\0") if each}
            if not tagged:
                raise SourceError(
                    f"{self._named()}: git ignores this folder; take it out of .gitignore, or name another source"
                )
            tracked = frozenset(Path(name) for tag, name in tagged if tag != _OTHERS)
            return sorted({*tracked, *(Path(name) for tag, name in tagged if tag == _OTHERS)}), tracked
        if b"not a git repository" in done.stderr:
            return self._all(), None
        # What git ignores may be secret: never guess.
        said = one_line(" ".join(os.fsdecode(done.stderr).split()))
        raise SourceError(f"{self._named()}: git can't list its files: {said}")

    def _git(self) -> subprocess.CompletedProcess[bytes]:
        """Files that git tracks, and those that it doesn't ignore, each with a tag; no program runs but git."""
        own = [word for name, value in _OWN.items() for word in ("-c", f"{name}={value}")]
        command = ["git", *own, "--no-optional-locks", "-C", str(self.folder)]
        command += ["ls-files", "-z", "-t", "--cached", "--others", "--exclude-standard", "--", "."]
        environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
        # A partial clone may lack a .gitignore, or a folder of its index: git would fetch it, by whatever its remote
        # names. An older git knows the second alone.
        environment |= {"LC_ALL": "C", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment, timeout=_SECONDS
        )

    def _named(self, *path: Path) -> str:
        """The folder, or a file in it, for a message: always one line."""
        return one_line(str(self.folder.joinpath(*path)))

    def _all(self) -> list[Path]:
        return sorted(path.relative_to(self.folder) for path in self.folder.rglob("*"))

    @cached_property
    def _taken(self) -> list[Path]:
        """Files and links, but for what is never part of a release."""
        found, tracked = self._found
        included = self._included()
        taken = []
        for path in sorted({*found, *included}):
            whole = self.folder / path
            if (LEFT_OUT & set(path.parts) and path not in included) or not os.path.lexists(whole):
                continue
            mode = whole.lstat().st_mode
            if stat.S_ISLNK(mode):
                self._check_link(path)
            elif stat.S_ISDIR(mode):
                if tracked is not None and path not in included:
                    raise SourceError(
                        f"{self._named(path)} is a git submodule, which a release can't hold; make it a dependency"
                    )
                continue
            elif not stat.S_ISREG(mode):
                kind = "a named pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
                told = f"{self._named(path)} is {kind}"
                raise SourceError(f"{told}, which a release can't hold; remove it, or let git ignore it")
            taken.append(path)
        return taken

    def _included(self) -> set[Path]:
        """What `include` names: files, and all in folders but what no release has."""
        found: set[Path] = set()
        for name in map(Path, self.include):
            whole = self.folder / name
            if not os.path.lexists(whole):
                raise SourceError(f"{self._named(name)}: include names it, but there is no such file; build it first")
            if not whole.resolve().is_relative_to(self.folder.resolve()):
                raise SourceError(f"{self._named(name)}: include names it, but it leads out of the source")
            below = whole.rglob("*") if whole.is_dir() and not whole.is_symlink() else ()
            inner = (path.relative_to(self.folder) for path in below)
            found |= {path for path in inner if not LEFT_OUT & set(path.relative_to(name).parts)}
            found |= {name} if name.name != _ENV else set()
        return found

    def _check_link(self, path: Path) -> None:
        whole = self.folder / path
        target = whole.readlink()
        inside = Path(os.path.normpath(path.parent / target))  # as it is written, even if it leads nowhere now
        try:
            real = whole.resolve()
        except (OSError, RuntimeError):  # it leads to itself
            real = None
        if (
            target.is_absolute()
            or inside.parts[:1] == (os.pardir,)
            or real is None
            or not real.is_relative_to(self.folder.resolve())
        ):
            told = f"{self._named(path)} is a link to {one_line(str(target))}"
            raise SourceError(
                f"{told}, which isn't inside of the source, so it would lead elsewhere on the host; copy what it leads "
                "to, or write it as a relative link to a file of the source"
            )

    @cached_property
    def _secret(self) -> frozenset[Path]:
        """Files that look like secrets."""
        return frozenset(path for path in self._taken if self._looks_secret(path))

    def _looks_secret(self, path: Path) -> bool:
        whole = self.folder / path
        *parents, name = (part.lower().strip() for part in path.parts)  # white space is part of it, but isn't seen
        if whole.is_symlink():  # what it leads to is judged itself
            return False
        if whole in self.secrets or any(map(_SECRET_FOLDER.fullmatch, parents)):
            return True
        if _SECRET.fullmatch(name):
            return not _EXAMPLE.search(name)
        if whole.stat().st_size > _SMALL:
            return False
        data = whole.read_bytes()
        return bool(_CONTENT.search(data) or (name in (".npmrc", ".yarnrc.yml") and _NPM.search(data)))

    @property
    def files(self) -> list[Path]:
        """What is sent, relative and sorted."""
        return [path for path in self._taken if path not in self.kept]

    @cached_property
    def kept(self) -> list[Path]:
        """What looks like a secret and isn't tracked by git: it stays here."""
        return sorted(self._secret - (self._found[1] or frozenset()))

    @cached_property
    def _dropped(self) -> list[Path]:
        """Files of the name .env, which is never sent; but none of those that are built anew with all around them."""
        found = (path for path in self._found[0] if path.name == _ENV and not LEFT_OUT & set(path.parts[:-1]))
        return sorted(path for path in found if (self.folder / path).is_file())

    @property
    def notes(self) -> list[str]:
        """What to say of files that look like secrets."""
        sent = sorted(self._secret - set(self.kept))
        if_needed = "it stays here, in no release. If the app needs its values, name it in env_file."
        told = dict.fromkeys(self.kept, f"looks like a secret and isn't tracked by git: {if_needed}")
        told |= dict.fromkeys(self._dropped, f"is never sent, tracked by git or not: {if_needed}")
        return [
            *(f"{self._named(path)} {told[path]}" for path in sorted(told) if not self._is_named(path)),
            *(
                f"{self._named(path)} looks like a secret, and is sent, since git tracks it. If it is one: "
                "git rm --cached" + ("." if self._is_named(path) else ", and let env_file give it to the app.")
                for path in sent
            ),
        ]

    def _is_named(self, path: Path) -> bool:
        whole = self.folder / path
        return whole in self.named or whole.resolve() in self.named

    def pack(self) -> bytes:
        """It as a tar.gz without owners and times, so that its digest tells whether the source changed."""
        import tarfile  # only here: the settings' check loads this module before it connects

        buffer = io.BytesIO()
        with (
            gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as zipped,
            tarfile.open(fileobj=zipped, mode="w") as archive,
        ):
            for path in self.files:
                info = tarfile.TarInfo(str(path))
                if (self.folder / path).is_symlink():
                    info.type, info.linkname = tarfile.SYMTYPE, str((self.folder / path).readlink())
                    archive.addfile(info)
                    continue
                data = (self.folder / path).read_bytes()
                info.size = len(data)
                info.mode = 0o755 if (self.folder / path).stat().st_mode & 0o100 else 0o644
                archive.addfile(info, io.BytesIO(data))
        return buffer.getvalue()


def git_describe(folder: Path) -> str:
    """What `git describe` says of a folder's commit; empty without git, or without a tag before it."""
    own = [word for name, value in _OWN.items() for word in ("-c", f"{name}={value}")]
    command = ["git", *own, "--no-optional-locks", "-C", str(folder), *DESCRIBE]
    environment = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    environment |= {"LC_ALL": "C", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return os.fsdecode(done.stdout).strip() if done.returncode == 0 else ""


def listed(folder: Path) -> list[Path]:
    """Files of a folder that a release has, relative and sorted."""
    return Source(folder).files


def pack(folder: Path) -> bytes:
    """A folder as `Source.pack` packs it."""
    return Source(folder).pack()
