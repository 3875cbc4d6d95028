"""Run the commands of a build. They run code of the app and its dependencies, so each runs as the app's builder, in a
unit of its own.

The unit can write to the release and to the app's caches. When a command has ended, nothing of it is left: systemd has
ended the whole unit, and a process that escaped is found.
"""

from __future__ import annotations

import os
from pathlib import Path

from slipway_host.names import BUILD, PATH
from slipway_host.release import caches, guest, room
from slipway_host.system import Done, Failed, tail
from slipway_host.systemd import NOT_RUN, environment_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from slipway_host.release.app import App

BUILD_SECONDS = 3600  # to compile a package may take long


def run(
    app: App,
    release: str,
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    network: bool = True,
    secrets: Iterable[str] = (),
    more: Iterable[str] = (),
    said: str = "",
    reading: bool = False,
) -> Done:
    """Run a command of a build. Returns how it ended, even if it failed.

    + environment: its variables; no other process can read them
    + network: whether it may use the network (but never reach this host)
    + secrets: texts to hide in its output
    + more: more lines of its unit
    + said: its standard input
    + reading: whether it may read what the app's group may, of the release; of that group's files it sees no others

    Raises Failed if it took too long, left too little room on a disk, or left a process running.
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
        # It doesn't see other apps, nor the sockets of this host's services.
        f"TemporaryFileSystem={layout.apps} {layout.run.parent}",
        f"BindPaths={folder}",
        f"ReadWritePaths={folder} {app.at.cache}",
        f"BindReadOnlyPaths=-{os.path.realpath(layout.resolver)}",
        *more,
        f"EnvironmentFile={file}",
        f"WorkingDirectory={app.work(release)}",
        f"LimitFSIZE={room.largest(folder)}",
        f"ExecStartPre=+nft -f {layout.build_rules}" if network else "PrivateNetwork=yes",
    ]
    keys = Keys(app) if network and (app.wanted.get("dependencies") or {}).get("key") else None
    if keys:
        properties += keys.properties
        file.write_text(environment_file({**known, **environment, **keys.environment}))
    if reading:
        hidden = " ".join(f"-{path}" for path in (app.at.etc, app.at.home))
        properties += [f"SupplementaryGroups={app.at.group}", f"InaccessiblePaths={hidden}"]
    unit, began = app.at.helper("build"), app.system.clock()
    written = [each for each in (folder, app.at.cache, *layout.temporary) if each.is_dir()]
    try:  # not in the unit's properties: every user can read those
        with room.Guard(written, lambda: app.systemd.kill(f"{unit}.service")) as guard:
            options = {"heard": app.progress.heard, "secrets": secrets, "said": said}
            done: Done = app.systemd.run(unit, properties, {}, argv, BUILD_SECONDS, noting=False, **options)
    finally:
        file.unlink(missing_ok=True)
        if keys:
            keys.remove()
    if done.code and app.system.clock() - began >= BUILD_SECONDS:
        raise Failed(f"`{argv[0]}` was ended after {BUILD_SECONDS} s. {tail(done.output)}")
    if left := guest.processes(app.at.builder):
        raise Failed(f"Processes of the build are left ({', '.join(map(str, left))}): see `ps -u {app.at.builder}`.")
    if guard.short:
        caches.empty(app)  # it may have filled those, which the next build would find
        raise Failed(f"The build was ended: {guard.short}. Make room, or see what it wrote so much for.")
    return done


class Keys:
    """Copies of the key to dependencies, and of the keys of git's servers, that the builder can read for one command.

    They are in the run's own folder, which is in memory. The builder can't change them: no server's key is added.
    """

    def __init__(self, app: App) -> None:
        """`app`: whose build it is."""
        folder, shown = Path(app.request["folder"]), app.system.layout.build_keys
        self.paths = {folder / "key": app.at.dependencies_key, folder / "known_hosts": app.at.dependencies_hosts}
        for copy, path in self.paths.items():
            copy.unlink(missing_ok=True)
            copy.touch(0o600)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o400)
            app.system.chown(copy, app.at.builder, app.at.builder)
        self.properties = [f"BindReadOnlyPaths={path}:{shown / path.name}" for path in self.paths]
        options = ("BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes")
        words = [word for each in options for word in ("-o", each)]
        words += ["-o", f"UserKnownHostsFile={shown / 'known_hosts'}", "-i", str(shown / "key")]
        self.environment = {"GIT_SSH_COMMAND": " ".join(["ssh", "-F", "none", *words]), "GIT_TERMINAL_PROMPT": "0"}

    def remove(self) -> None:
        """Remove them."""
        for path in self.paths:
            path.unlink(missing_ok=True)


def must_run(app: App, done: Done) -> None:
    """Raise Failed if a command of a build wasn't run at all; how it ended is for the caller to judge."""
    # systemd-run writes this before the command could write anything.
    if done.code in NOT_RUN or done.output.startswith("Failed to start transient service unit"):
        unit = f"{app.at.helper('build')}.service"
        raise Failed(f"`{done.argv[0]}` couldn't be run in {unit}:\n{tail(done.output)}")
