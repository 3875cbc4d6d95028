"""Where an app's code comes from: a git repository, or a folder."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from slipway.settings import types as t
from slipway.settings.base import LIST_DO, Model


class GitSource(Model):
    """A git repository at a ref; the host fetches it."""

    git: Annotated[t.GitUrl, Field(examples=["https://git.example.com/team/notes.git"])]
    """Repository to fetch: an https, ssh or file URL, or git@host:path. A file URL is on the host, in a repository
    that root owns."""
    ref: t.GitRef = "main"
    """Branch, tag or commit to release. A branch releases what it points to at the time of the run."""
    subdir: t.Subdir = ""
    """Folder of the app inside the repository (monorepo, or a member of a uv workspace); empty is the root."""
    deploy_key: t.LocalPath | None = None
    """Private SSH key file, beside the inventory, that may read the repository. Needs an SSH address in git; no
    passphrase, and no one but you may read the file (chmod 600)."""
    known_hosts: t.LocalPath | None = None
    """known_hosts file with the git server's key (ssh-keyscan, then compare); without it, the first key seen is
    trusted and kept."""

    @property
    def uses_ssh(self) -> bool:
        """Whether the repository is reached over SSH, so that keys and known hosts matter."""
        return not self.git.startswith(("https://", "file://"))


class FolderSource(Model):
    """A folder on the operator's machine; it is uploaded."""

    path: Annotated[t.LocalPath, Field(examples=["../examples/notes"])]
    """Local folder to release, relative to the inventory: the project, or the root of a monorepo or workspace."""
    subdir: t.Subdir = ""
    """Folder of the app inside it (monorepo, or a member of a uv workspace); empty is the root."""
    include: Annotated[list[t.InnerPath], t.Narrow("a list of paths in the folder", LIST_DO, container=True)] = []
    """Files and folders inside it that are sent although git ignores them, such as ["frontend/dist"]: what was built on
    this machine. What looks like a secret stays here all the same."""


def _source_kind(value: Any) -> str | None:
    if isinstance(value, GitSource | FolderSource):
        return "git" if isinstance(value, GitSource) else "path"
    if not isinstance(value, dict):
        return None
    kinds = [kind for kind in ("git", "path") if kind in value]
    return kinds[0] if len(kinds) == 1 else None


SOURCE = t.Narrow(
    'either {"git": address, "ref": …} or {"path": local folder}',
    'write one of both, such as {"git": "https://git.example.com/team/notes.git", "ref": "main"}',
    container=True,
)

AnySource = Annotated[
    Annotated[GitSource, Tag("git")] | Annotated[FolderSource, Tag("path")],
    Discriminator(
        _source_kind,
        custom_error_type="setting",
        custom_error_message="{expected}",
        custom_error_context={"expected": SOURCE.expected, "do": SOURCE.do, "secret": False},
    ),
]
