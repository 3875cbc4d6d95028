"""Release each app: built, migrated, started and proven beside the old release before it serves."""

from __future__ import annotations

import hashlib
import json
import platform
import posixpath
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyinfra import host, logger
from slipway_host import lockfiles
from slipway_host.layout import LAYOUT
from slipway_host.protocol import FORMAT

from roles import app as app_role
from roles.python import uv_environment
from roles.release import operations
from roles.release.facts import Git, ReleaseHistory
from slipway import person
from slipway.engine import plan
from slipway.engine.overview import HostOverview
from slipway.engine.place import File, Folder, place
from slipway.engine.pyinfra_api import OperationMeta
from slipway.engine.role import role
from slipway.engine.templates import host_file
from slipway.foreign import one_line
from slipway.prober import Prober, site_and_load
from slipway.servers import INTERFACES, SERVERS
from slipway.settings import HOOKS, AppSettings, FolderSource, RunOptions, Settings, chosen, render_env
from slipway.settings.folder import Source, git_describe


def digest(value: object) -> str:
    """SHA-256 of a value's JSON, or of bytes: equal inputs need no release."""
    data = value if isinstance(value, bytes) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def git_ssh(app: AppSettings) -> str:
    """The SSH command by which the host's git reads the repository; empty for other transports."""
    source = app.source
    if isinstance(source, FolderSource) or not source.uses_ssh:
        return ""
    # The first key seen is kept in a file of its own, so that a pinned one is forgotten with its setting.
    if source.known_hosts:
        checking, known = "yes", app.known_hosts_path
    else:
        checking, known = "accept-new", str(app.at.seen_hosts)
    given = ["BatchMode=yes", f"StrictHostKeyChecking={checking}", f"UserKnownHostsFile={known}"]
    key = ["-i", app.deploy_key_path] if source.deploy_key else []
    if key:
        given.append("IdentitiesOnly=yes")
    return shlex.join(["ssh", *(part for option in given for part in ("-o", option)), *key])


def described(app: AppSettings) -> dict[str, str]:
    """What git says of a folder's version, if the app's project takes it from there."""
    project = app.content(posixpath.join(app.source.subdir, "pyproject.toml")) or b""
    dynamic = re.search(rb"^dynamic\s*=\s*\[[^]]*[\"']version[\"']", project, re.MULTILINE)
    if app.source_dir is None or not (dynamic or b"poetry-dynamic-versioning" in project):
        return {}
    return {"described": git_describe(app.source_dir)}


def dependencies(app: AppSettings) -> dict[str, Any]:
    """Which packages a release has, as the host's locks.py reads it."""
    chosen = chosen_dependencies(app) | {"server": list(app.runs_under.packages)}
    return chosen | ({"key": True} if app.dependencies.deploy_key else {})


def chosen_dependencies(app: AppSettings) -> dict[str, Any]:
    """What of dependencies isn't as it is by default; without the files of this machine, and how a build goes."""
    return app.dependencies.model_dump(exclude_defaults=True, exclude={"deploy_key", "known_hosts"})


def wanted(settings: Settings, overview: HostOverview, app: AppSettings, commit: str) -> dict[str, Any]:
    """The content of /etc/<app>/release.json: what a release is made from (wanted.Wanted), without a secret.

    + commit: what names the source; empty for git, where the host looks the ref up
    """
    workers = app_role.worker_count(app, overview, len(settings.apps))
    units = app_role.units(app, workers)
    migrate = "auto" if app.migrate == "auto" else app.migrate_command
    jobs = app_role.jobs(app)
    hooks = {name: app.hooks.argv(name) for name in HOOKS}
    static = [each.path for each in app.statics if not app.shared_with(each.path)]
    if isinstance(app.source, FolderSource):
        source = {"kind": "archive"} | described(app)
    else:
        source = {"kind": "git", "url": app.source.git, "ssh": git_ssh(app)}
    return {
        "format": FORMAT,
        "app": app.app or "",
        "interface": app.interface,
        "factory": app.factory,
        "python_path": app.python_path,
        "server": {
            "name": app.runs_under.name,
            "interfaces": list(app.runs_under.interfaces),
            "others": {
                interface: [each.name for each in SERVERS.values() if interface in each.interfaces]
                for interface in INTERFACES
            },
            "instead": {
                each.name: list(each.packages)
                for each in sorted(SERVERS.values(), key=lambda each: -len(each.interfaces))
                if each is not app.runs_under
            },
            "modules": {interface: list(names) for interface, names in app.runs_under.modules.items()},
            "versions": app.runs_under.versions,
            **({"config": app.server_config} if app.server_config else {}),
        },
        "source": source | {"subdir": app.source.subdir, "commit": commit},
        "python": app.python_version,
        "uv_env": uv_environment(settings) | {"UV_PYTHON_DOWNLOADS": "never"},
        "migration": {
            "command": migrate,
            "timeout": app.migrate_timeout,
            "lock_timeout": app.migrate_lock_timeout,
            "statement_timeout": app.statement_timeout,
            "retries": app.migrate_retries,
            **({"config": app.migrate_config} if app.migrate_config else {}),
        },
        "hooks": hooks | {"timeout": app.hooks.timeout},
        "readiness": {
            "path": app.readiness,
            "strict": app.has_health,
            "interval": app.readiness_interval,
            "timeout": app.readiness_timeout,
            "host": app.main_domain,
            "scheme": "http" if app.tls.mode == "off" else "https",
        },
        "units": units,
        "processes": {
            name: {"command": process.argv, "alive": process.alive, "alone": process.alone}
            for name, process in app.processes.items()
        },
        "jobs": jobs,
        "sandbox": app_role.sandbox(app),
        "build": {
            "sandbox": app_role.build_sandbox(overview),
            "only": app.build_only,
            "commands": [shlex.split(command) for command in app.build],
            "env": app.plain_build_environment,
            **({"first": [shlex.split(command) for command in app.build_first]} if app.build_first else {}),
        },
        "dependencies": dependencies(app),
        "programs": list(app.runs_under.programs),
        "deaths": app.runs_under.deaths,
        # Names alone: what their values are is shown nowhere.
        "secrets": sorted(app.secret_names),
        "static": static,
        "shared": shared_paths(app),
        "watch": app.watch,
        "drain_timeout": app.drain_seconds,
        "graceful_timeout": app.graceful_timeout,
        "keep_warm": app.warm_seconds,
        "keep": app.keep_releases,
        # What a release is made from: where one differs from those of the release that serves, a new one is due.
        "inputs": {
            "source": commit,
            "folder": app.source.subdir,
            "Python": app.python_version,
            "environment": digest(render_env(app_role.environment(app, workers)).encode()),
            # An app without jobs has the digest that it had before there were any.
            "service": digest(units | {"jobs": jobs} if jobs else units),
            "application": digest([app.app, app.interface, app.factory, app.python_path]),
            "migration": digest([migrate, app.migrate_config] if app.migrate_config else migrate),
            "readiness path": app.readiness if app.has_health else "",
            "static files": ", ".join(static),
            **files_inputs(app),
        }
        # Without it, what was made before there were such settings counts as made from the same.
        | ({"dependencies": digest(chosen)} if (chosen := chosen_dependencies(app)) else {}),
    }


def shared_paths(app: AppSettings) -> dict[str, list[str]]:
    """Paths in the app's folder of what doesn't come from its source (wanted.Shared)."""
    served = {app.shared_with(each.path) for each in app.statics}
    return {
        "folders": app.shared,
        "files": app.writable_files,
        "served": [path for path in app.shared if path in served],
        "secrets": sorted(app.given_files),
    }


def files_inputs(app: AppSettings) -> dict[str, str]:
    """What else a release is made from; an app that asks for none of it has the inputs that it always had."""
    shared = {name: paths for name, paths in shared_paths(app).items() if name != "secrets"}
    given = {path: digest(local.read_bytes()) for path, local in app.given_files.items()}
    return {
        **({"build": digest(app.build)} if app.build else {}),
        **({"first commands of the build": digest(app.build_first)} if app.build_first else {}),
        **({"shared folders": digest(shared)} if app.shared or app.writable_files else {}),
        **({"secret files": digest(given)} if given else {}),
    }


SHARED_FOLDERS = {str(LAYOUT.servers): Folder()}


def shared() -> dict[str, File]:
    """Path → file: what all apps' servers share, and what finds an app's application."""
    files = {path: file for server in SERVERS.values() for path, file in server.files.items()}
    files |= {str(path): f"app/servers/{path.name}" for path in (LAYOUT.look_program, *LAYOUT.look_modules)}
    note = "counts from the next start of a release"
    return {path: File(host_file(file), note=note) for path, file in sorted(files.items())}


def operator() -> str:
    """Who runs this, as the history of a host names them."""
    return f"{person.name()}@{platform.node()}"


def inputs_of(settings: Settings, overview: HostOverview, app: AppSettings) -> dict[str, File]:
    """Path → file: the app's environment, and the keys by which the host reaches its repository."""
    workers = app_role.worker_count(app, overview, len(settings.apps))
    text = render_env(app_role.environment(app, workers))
    made = {app.env_path: File(text, "640", group=app.group, secret=True, note="for its next release")}
    of_dependencies = (
        (app.dependencies_key_local, app.at.dependencies_key),
        (app.dependencies_hosts_local, app.at.dependencies_hosts),
    )
    made |= {
        str(path): File(local.read_text(encoding="utf-8"), "600", secret=True)
        for local, path in of_dependencies
        if local
    }
    for path, local in app.given_files.items():
        content = local.read_bytes().decode()  # as it is: its digest is of just these bytes
        made[str(app.at.secret_file(path))] = File(content, "600", secret=True, note="for its next release")
    return made | {
        path: File(local.read_text(encoding="utf-8"), "600", secret=True)
        for local, path in (
            (app.deploy_key_local, app.deploy_key_path),
            (app.known_hosts_local, app.known_hosts_path),
        )
        if local and not isinstance(app.source, FolderSource)
    }


@role("Release")
def release(settings: Settings, overview: HostOverview, options: RunOptions) -> dict[str, OperationMeta]:
    """A release of each app whose code, environment or service settings differ from those of the one that serves.

    A release that fails doesn't keep the other apps from theirs: the caller gets the steps to judge.
    """
    files = shared()
    folders: dict[str, Folder] = {}
    for app in chosen(settings, options):
        files |= inputs_of(settings, overview, app)
        folders |= {str(app.at.secret_files): Folder("700")} if app.given_files else {}
    place(name="Write what servers share, and the apps' environments", folders=SHARED_FOLDERS | folders, files=files)
    sources = Sources(settings, options)
    given = {app.name: asked_of(settings, overview, app, options, sources) for app in chosen(settings, options)}
    settled = {name: each for name, each in given.items() if operations.settled(**each)}
    steps = {
        f"the release of {name}": operations.release(name=f"Release {name}", given=[each], _ignore_errors=True)
        for name, each in given.items()
        if name not in settled
    }
    if settled:
        keep = operations.release(name="Keep what serves", given=[*settled.values()], _ignore_errors=True)
        steps[f"the release of {' or '.join(settled)}"] = keep
    return steps


@role("Rollback")
def rollback(settings: Settings, options: RunOptions) -> dict[str, OperationMeta]:
    """Let the release from before, or the one that ``--data to=`` names, serve again; nothing is built or fetched."""
    place(name="Write what servers share", folders=SHARED_FOLDERS, files=shared())
    return {
        f"the rollback of {app.name}": operations.rollback(
            name=f"Roll back {app.name}",
            app=app.name,
            apps=tuple(each.name for each in chosen(settings, options)),
            request={
                "by": operator(),
                "wait": app.lock_wait,
                "to": options.to,
                "schema": options.schema,
                "stop_first": options.stop_first,
            },
            prober=prober(app, options),
            _ignore_errors=True,
        )
        for app in chosen(settings, options)
    }


@role("Releases")
def history(settings: Settings, options: RunOptions) -> None:
    """Print every release of each app, on standard output; the host's own program knows them."""
    for app in chosen(settings, options):
        lines = host.get_fact(ReleaseHistory, app=app.name, as_json=options.json)
        if options.json:
            releases = json.loads("".join(lines) or "[]")
            print(json.dumps({"host": host.name, "app": app.name, "releases": releases}))
        else:
            print(f"{app.name} on {host.name}", *map(one_line, lines), "", sep="\n")


def prober(app: AppSettings, options: RunOptions) -> Prober | None:
    """The traffic that proves the run lossless, where ``--data prove=true`` asks for it."""
    return Prober(*site_and_load(app, host.data.get("verify") or {})) if options.prove else None


class Sources:
    """Where the code of all chosen apps comes from: what they share is packed, or asked for, once."""

    def __init__(self, settings: Settings, options: RunOptions) -> None:
        self._secrets, self._named = settings.secret_files, settings.named_files
        self._packed: dict[tuple[Path, tuple[str, ...]], tuple[bytes, list[str]]] = {}
        gits = (git for app in chosen(settings, options) if (git := git_of(app)))
        self.asked: tuple[Git, ...] = tuple(dict.fromkeys(git for git in gits if not operations.is_commit(git[1])))
        """Those of which the host looks up a ref."""

    def packed(self, folder: Path, include: Sequence[str] = ()) -> tuple[bytes, list[str]]:
        """A local folder as a tar.gz, and what is to be said of its files.

        + include: what is sent of it although git ignores it
        """
        key = folder, tuple(include)
        if key not in self._packed:
            source = Source(folder, self._secrets, self._named, key[1])
            self._packed[key] = source.pack(), source.notes
        return self._packed[key]


def git_of(app: AppSettings) -> Git | None:
    """An app's repository; None for a local folder."""
    return None if isinstance(app.source, FolderSource) else (app.source.git, app.source.ref, git_ssh(app))


def asked_of(
    settings: Settings, overview: HostOverview, app: AppSettings, options: RunOptions, sources: Sources
) -> dict[str, Any]:
    """What one app's release is asked with: the arguments of `operations.release_of`."""
    archive, git, commit, of_python = None, git_of(app), "", []
    if app.source_dir is not None and isinstance(app.source, FolderSource):
        archive, notes = sources.packed(app.source_dir, app.source.include)
        for note in notes:
            plan.say(f"{app.name}: {note}", logger.warning)
        commit = digest(archive)
        of_python = [f"it gets Python {app.python_version}"]
        other = lockfiles.other_python(app.source.subdir, app.content, app.python_version)
        if other and app.python is None:
            of_python = [f"{of_python[0]}, as python.version of the host says; {other}"]
    return {
        "app": app.name,
        "apps": tuple(settings.apps),
        "wanted": wanted(settings, overview, app, commit),
        "request": {
            "build": app.build_environment,
            "by": operator(),
            "wait": app.lock_wait,
            "contract": options.contract,
            "again": options.again,
            "fresh": options.fresh,
            "stop_first": options.stop_first,
        },
        "placeholders": app_role.placeholders(app, app_role.worker_count(app, overview, len(settings.apps))),
        "archive": archive,
        "git": git,
        "sources": sources.asked,
        "keys": (app.deploy_key_path, app.known_hosts_path),
        "notes": of_python,
        "prober": prober(app, options),
    }
