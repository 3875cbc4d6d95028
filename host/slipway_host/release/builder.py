"""Commands of a build: they run code of the app and of its dependencies, so each runs as the app's builder, in a unit.

The unit can write to the release and to the app's caches. When a command has ended, nothing that it started is left:
systemd has ended all of the unit, and what escaped it would be found.
"""

from __future__ import annotations

import os
from pathlib import Path

from slipway_host.layout import BUILD, PATH
from slipway_host.release import caches, guest, room
from slipway_host.system import Done, Failed, tail
from slipway_host.systemd import NOT_RUN, environment_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slipway_host.release.app import App

BUILD_SECONDS = 3600  # a package that is compiled from source may take long


def run(
    app: App,
    release: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    network: bool = True,
    secrets: Iterable[str] = (),
) -> Done:
    """Run a command of a build; returns its end, whatever that is.

    + environment: its variables; they are seen by nobody else
    + network: whether it may ask the network, though never this host
    + secrets: texts that are not shown

    Raises Failed where it took too long or left too little room on a disk, and where something of it runs on.
    """
    folder, layout = app.at.folder(release), app.system.layout
    file = Path(app.request["folder"]) / BUILD
    known = {"PATH": PATH, "HOME": str(app.at.builder_home), "LC_ALL": "C.UTF-8"}
    file.touch(0o600)
    file.write_text(environment_file({**known, **environment}))
    properties = [
        f"User={app.at.builder}",
        f"Group={app.at.builder}",
        *app.wanted["build"]["sandbox"],
        # Other apps aren't there, nor the sockets of this host's services.
        f"TemporaryFileSystem={layout.apps} {layout.run.parent}",
        f"BindPaths={folder}",
        f"ReadWritePaths={folder} {app.at.cache}",
        f"BindReadOnlyPaths=-{os.path.realpath(layout.resolver)}",
        f"EnvironmentFile={file}",
        f"WorkingDirectory={app.work(release)}",
        f"LimitFSIZE={room.largest(folder)}",
        f"ExecStartPre=+nft -f {layout.build_rules}" if network else "PrivateNetwork=yes",
    ]
    unit, began = app.at.helper("build"), app.system.clock()
    written = [each for each in (folder, app.at.cache, *layout.temporary) if each.is_dir()]
    try:  # in the file, not in the unit's own properties: those everybody may read
        with room.Guard(written, lambda: app.systemd.kill(f"{unit}.service")) as guard:
            done: Done = app.systemd.run(
                unit, properties, {}, argv, BUILD_SECONDS, noting=False, heard=app.progress.heard, secrets=secrets
            )
    finally:
        file.unlink(missing_ok=True)
    if done.code and app.system.clock() - began >= BUILD_SECONDS:
        raise Failed(f"`{argv[0]}` was ended after {BUILD_SECONDS} s. {tail(done.output)}")
    if left := guest.processes(app.at.builder):
        raise Failed(f"Processes of the build are left ({', '.join(map(str, left))}): see `ps -u {app.at.builder}`.")
    if guard.short:
        caches.empty(app)  # it may have filled those, which the next build would find
        raise Failed(f"The build was ended: {guard.short}. Make room, or see what it wrote so much for.")
    return done


def must_run(app: App, done: Done) -> None:
    """Fail where a command of a build wasn't run at all; how it ended is the caller's affair."""
    # What runs in a build writes nothing before its own words.
    if done.code in NOT_RUN or done.output.startswith("Failed to start transient service unit"):
        unit = f"{app.at.helper('build')}.service"
        raise Failed(f"`{done.argv[0]}` couldn't be run in {unit}:\n{tail(done.output)}")
