"""Release each app: built, migrated, started and proven beside the old release before it serves."""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import Any

from pyinfra.api.operation import OperationMeta

from roles import _operations as operations
from roles import app as app_role
from roles._facts import HostOverview
from roles._role import role
from roles._source import pack
from roles._templates import host_file
from roles.python import uv_environment
from roles.settings import AppSettings, FolderSource, Settings, render_env


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
        checking, known = "accept-new", f"{app.known_hosts_path}.seen"
    given = ["BatchMode=yes", f"StrictHostKeyChecking={checking}", f"UserKnownHostsFile={known}"]
    key = ["-i", app.deploy_key_path] if source.deploy_key else []
    if key:
        given.append("IdentitiesOnly=yes")
    return shlex.join(["ssh", *(part for option in given for part in ("-o", option)), *key])


def wanted(settings: Settings, overview: HostOverview, app: AppSettings, commit: str) -> dict[str, Any]:
    """The content of /etc/<app>/release.json: all that `slipway-release` needs to know, but no secret.

    + commit: what names the source; empty for git, where the host looks the ref up
    """
    workers = app_role.worker_count(app, overview, len(settings.apps))
    units = app_role.units(app, workers)
    migrate = "auto" if app.migrate == "auto" else app.migrate_command
    if isinstance(app.source, FolderSource):
        source = {"kind": "archive"}
    else:
        source = {"kind": "git", "url": app.source.git, "ssh": git_ssh(app)}
    return {
        "app": app.app,
        "source": source | {"subdir": app.source.subdir, "commit": commit},
        "python": app.python_version,
        "uv_env": uv_environment(settings) | {"UV_PYTHON_DOWNLOADS": "never"},
        "migrate": migrate,
        "migrate_timeout": app.migrate_timeout,
        "readiness": {
            "path": app.readiness_path,
            "timeout": app.readiness_timeout,
            "host": app.main_domain,
            "scheme": "http" if app.tls.mode == "off" else "https",
        },
        "units": units,
        "sandbox": app_role.sandbox(app),
        "static": app.static.path if app.static else None,
        "drain_timeout": app.graceful_timeout,
        "keep": app.keep_releases,
        # What a release is made from: where one differs from those of the release that serves, a new one is due.
        "inputs": {
            "source": commit,
            "folder": app.source.subdir,
            "Python": app.python_version,
            "environment": digest(render_env(app_role.environment(app, workers)).encode()),
            "service": digest(units),
            "migration": digest(migrate),
            "readiness path": app.readiness_path,
            "static files": app.static.path if app.static else "",
        },
    }


@role("Release")
def release(settings: Settings, overview: HostOverview) -> dict[str, OperationMeta]:
    """A release of each app whose code, environment or service settings differ from those of the one that serves.

    A release that fails doesn't keep the other apps from theirs: the caller gets the steps to judge.
    """
    program = "/opt/slipway/bin/slipway-release"
    operations.file(
        name="Write slipway-release",
        path=program,
        content=host_file("release/slipway-release"),
        mode="755",
        program=True,
    )
    return {f"the release of {each.name}": release_app(settings, overview, each) for each in settings.apps.values()}


def release_app(settings: Settings, overview: HostOverview, app: AppSettings) -> OperationMeta:
    """One app's release."""
    name = f"Release {app.name}"
    if isinstance(app.source, FolderSource):
        assert app.source_dir is not None
        archive = pack(app.source_dir)
        value = wanted(settings, overview, app, digest(archive))
        return operations.release(
            name=name,
            app=app.name,
            wanted=value,
            build_environment=app.build_environment,
            archive=archive,
            _ignore_errors=True,
        )
    for what, local, path in (
        ("deploy key", app.deploy_key_local, app.deploy_key_path),
        ("known hosts", app.known_hosts_local, app.known_hosts_path),
    ):
        if local:
            text = local.read_text(encoding="utf-8")
            operations.file(name=f"Write the {what} of {app.name}", path=path, content=text, mode="600", secret=True)
    return operations.release(
        name=name,
        app=app.name,
        wanted=wanted(settings, overview, app, ""),
        build_environment=app.build_environment,
        git=(app.source.git, app.source.ref, git_ssh(app)),
        _ignore_errors=True,
    )
