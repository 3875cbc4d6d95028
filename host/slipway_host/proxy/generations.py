"""The files of nginx's configuration: a folder for each generation, and the upstreams that name what serves."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from slipway_host.names import NGINX_KEEPS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from slipway_host.layout import AppLayout, Layout
    from slipway_host.system import System

NAME = "@GENERATION@"
"""Placeholder for the generation's name in its files."""
NONE = "none"
"""What the running nginx answers for an app before its first release."""
FOLDER_MODE, FILE_MODE = 0o755, 0o644
UTF8 = "utf-8"


# ── which release serves ─────────────────────────────────────────────────────────────────────────────────────────


def upstream(at: AppLayout, release: str | None) -> str:
    """The text of an app's upstream, with a variable by which the running nginx tells which release serves.

    + release: None before the first one
    """
    variable = "release_" + at.name.replace("-", "_")
    socket = at.socket(release or NONE)
    return (
        "# Managed by Slipway (slipway nginx switch): the release that serves.\n"
        f"upstream {at.name} {{\n"
        f"    server unix:{socket}{'' if release else ' down'};\n"
        # Of each of nginx's workers. Where more requests are under way at once, up to a third of them need a new
        # connection: with 64 under way and 32 kept, a tenth of the processors' time went into that. An idle connection
        # counts for `concurrency`.
        "    keepalive 64;\n"
        # Shorter than the app's keep-alive: nginx must close an idle connection first, or it could send a request into
        # a connection that the app is closing.
        f"    keepalive_timeout {NGINX_KEEPS}s;\n"
        "    keepalive_requests 10000;\n"
        "}\n"
        f'map "" ${variable} {{\n'
        f'    default "{release or NONE}";\n'
        "}\n"
    )


def named_release(at: AppLayout) -> str | None:
    """The release that an app's upstream file names, or else the one `current` names; None before the first."""
    path = at.host.upstream(at.name)
    text = path.read_text(UTF8, errors="replace") if path.exists() else ""
    socket = re.escape(str(at.socket("RELEASE"))).replace("RELEASE", r"(\S+)")
    found = re.search(rf"unix:{socket};", text)
    if found:
        return found[1]
    return at.current.readlink().name if at.current.is_symlink() else None


def wanted_upstreams(layout: Layout, files: Iterable[str]) -> dict[Path, str]:
    """Path → content that each site's upstream file should have.

    + files: paths in a generation
    """
    sites = f"{layout.sites.name}/"
    apps = [layout.app(Path(path).stem) for path in files if path.startswith(sites)]
    return {layout.upstream(at.name): upstream(at, named_release(at)) for at in apps}


# ── generations ──────────────────────────────────────────────────────────────────────────────────────────────────


def generation(layout: Layout) -> str | None:
    """Name of the generation on disk; None before the first one."""
    return layout.nginx_live.readlink().name if layout.nginx_live.is_symlink() else None


def managed(layout: Layout) -> bool:
    """Whether nginx's main file is ours. It isn't until our first configuration is live."""
    return layout.nginx_main.is_symlink() and str(layout.nginx_main.readlink()) == layout.nginx_target


def expectation(layout: Layout) -> dict[str, str | None]:
    """What the running nginx must answer if it serves the files on disk."""
    expected = {"/generation": generation(layout)}
    for path in sorted(layout.sites.glob(layout.site("*").name)):
        text = layout.upstream(path.stem).read_text(UTF8, errors="replace")
        found = re.search(r'default "([^"]+)";', text)
        expected[f"/release/{path.stem}"] = found[1] if found else None
    return expected


def files_of(folder: Path) -> dict[str, str]:
    """Relative path → content of a generation's files."""
    return {
        str(path.relative_to(folder)): path.read_text(UTF8, errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def named(files: Mapping[str, str], name: str) -> dict[str, str]:
    """The files of a generation with its name in them, for the running nginx to tell."""
    return {path: text.replace(NAME, name) for path, text in files.items()}


def point(system: System, name: str) -> None:
    """Point the files on disk to another generation, in one step."""
    layout = system.layout
    system.link(layout.nginx_live, f"{layout.nginx_generations.name}/{name}")


def sweep(layout: Layout) -> None:
    """Remove what a killed run left."""
    for folder in (layout.nginx_generations, layout.upstreams, layout.nginx):
        for leftover in folder.glob(".*.partial"):
            shutil.rmtree(leftover) if leftover.is_dir() and not leftover.is_symlink() else leftover.unlink()


def write(layout: Layout, files: Mapping[str, str]) -> str:
    """Write a generation beside the one that serves, unless it exists already. Returns its name.

    + files: relative path → content, without the generation's name
    """
    import hashlib  # here, because `status` runs often and doesn't need it
    import json

    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    name, content = digest, named(files, digest)
    number = 2
    while (layout.nginx_generations / name).is_dir() and files_of(layout.nginx_generations / name) != content:
        name = f"{digest}.{number}"  # edited by hand since
        content, number = named(files, name), number + 1
    candidate = layout.nginx_generations / name
    if not candidate.is_dir():
        partial = candidate.with_name(f".{name}.partial")
        for path, text in content.items():
            file = partial / path
            file.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            file.write_text(text, UTF8)
            file.chmod(FILE_MODE)
        os.sync()
        partial.rename(candidate)
    return name


def forget(layout: Layout, keep: Iterable[str | None]) -> None:
    """Remove all generations but these."""
    for path in layout.nginx_generations.iterdir():
        if path.is_dir() and path.name not in keep:
            shutil.rmtree(path)
