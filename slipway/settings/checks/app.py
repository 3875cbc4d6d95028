"""One app: settings of it that contradict each other."""

from __future__ import annotations

import difflib
import os
import stat
from pathlib import Path

from slipway_host.names import NGINX_KEEPS

from slipway.servers import SERVERS
from slipway.settings import environment
from slipway.settings import folder as folder_source
from slipway.settings.app import AppSettings
from slipway.settings.checks.files import check_shared, check_static
from slipway.settings.checks.keys import check_ssh_key
from slipway.settings.checks.report import Report, check_text
from slipway.settings.checks.source import check_folder, check_git_source
from slipway.settings.checks.tls import check_domains, check_tls
from slipway.settings.errors import HIDDEN, show
from slipway.settings.host import Settings
from slipway.settings.release import HOOKS
from slipway.settings.source import GitSource


def _check_environment(report: Report, at: str, app: AppSettings) -> None:
    file = app.env_local
    name = file.name if file is not None else ""
    from_file = app._environment
    for key in sorted(from_file.keys() & app.env.keys()):
        report.add(f"{at}.env.{key}", "each variable once", f"{key} also in {name}", f"remove it here or in {name}")
    merged = {key: environment.plain_text(value) for key, value in app.env.items()} | from_file
    where = f"in {name}" if name else "in env or in a .env file that env_file names"
    for key in app.required_env:
        if not merged.get(key):
            found = f"{key} is empty" if key in merged else f"no {key}"
            report.add(f"{at}.required_env", f"a value for {key}", found, f"set {key} {where}")
    for key in app.build_env:
        if key not in merged:
            do = f"set {key} {where}"
            report.add(f"{at}.build_env", "names of variables in env or env_file", f"no {key} there", do)
    url_at = f"{at}.env.DATABASE_URL" if "DATABASE_URL" in app.env else f"{at}.env_file: DATABASE_URL"
    url = merged.get("DATABASE_URL")
    if url and (wrong := environment.unfit_database_url(url, app.database_driver)):
        report.add(url_at, "the URL of a database", f"{wrong[0]} {HIDDEN}", wrong[1])
    if url and app.sandbox.network == "unix" and environment.names_host(url):
        expected = '"internet", because DATABASE_URL names a host'
        do = 'name the folder of its socket (postgresql:///notes?host=/run/postgresql), or write "internet"'
        report.add(f"{at}.sandbox.network", expected, '"unix"', do)
    if app.database_driver is None:
        return
    if not url:
        do = f"set DATABASE_URL {where}, or remove database_driver"
        report.add(f"{at}.database_driver", "None without DATABASE_URL", show(app.database_driver), do)
    if "DATABASE_URL_SYNC" in merged:
        place = f"{at}.env.DATABASE_URL_SYNC" if "DATABASE_URL_SYNC" in app.env else f"{at}.env_file: DATABASE_URL_SYNC"
        do = "remove it, or remove database_driver and set both yourself"
        report.add(place, "not set together with database_driver", "DATABASE_URL_SYNC, which follows from it", do)


def _check_scheduler(report: Report, at: str, app: AppSettings) -> None:
    """One scheduler, in one process that ends when another release serves."""
    for name, process in app.processes.items():
        if process.alone and process.count > 1:
            do = "remove it, or remove alone"
            report.add(f"{at}.processes.{name}.count", "1 with alone", show(process.count), do)
    if not app.scheduler_in_web:
        return
    for name, fit in (("workers", 1), ("keep_warm", 0), ("drain_timeout", 0)):
        value = getattr(app, name)
        if name in app.model_fields_set and value not in (None, fit):
            do = "remove it, or move the scheduler to a process that is alone, and remove scheduler_in_web"
            report.add(f"{at}.{name}", f"{fit} with scheduler_in_web", show(value), do)


def _check_commands(report: Report, at: str, app: AppSettings) -> None:
    """Programs of a folder source that are paths: each must be a file that a release has, and be executable.

    What lies on the host (an absolute path), or in a git repository, can't be seen from here.
    """
    root, folder = app.source_dir, app.app_dir
    commands = {f"hooks.{name}": words for name in HOOKS if (words := app.hooks.argv(name))}
    commands |= {f"processes.{name}.command": process.argv for name, process in app.processes.items()}
    commands |= {f"jobs.{name}.command": job.argv for name, job in app.jobs.items()}
    programs = {name: words[0] for name, words in commands.items() if "/" in words[0]}
    if root is None or folder is None or not folder.is_dir():
        return
    programs = {name: program for name, program in programs.items() if not program.startswith("/")}
    try:
        files = set(folder_source.listed(root)) if programs else set()
    except folder_source.SourceError:  # the release tells it
        return
    expected = f"a command whose program is a file in {folder}"
    for name, program in programs.items():
        file, path = _file_at(folder / program), f"{at}.{name}"
        if file is None:
            known = sorted(os.path.relpath(root / one, folder) for one in files)
            fit = [one for one in known if os.access(folder / one, os.X_OK)]
            wanted = os.path.normpath(program)
            near = difflib.get_close_matches(wanted, fit, n=1) or difflib.get_close_matches(wanted, known, n=1)
            do = f'write "{near[0]}"' if near else "correct the path: it starts in the app's folder"
            report.add(path, expected, f"no file {show(program)} there", do)
        elif not file.is_relative_to(root) or file.relative_to(root) not in files:
            do = "take it out of .gitignore; for what the release's environment has, write the name alone (python)"
            report.add(path, expected, f"{show(program)}, which stays at home: no release has it", do)
        elif not file.stat().st_mode & stat.S_IXUSR:
            mode = f"mode {stat.S_IMODE(file.stat().st_mode):04o} of {show(program)}"
            report.add(path, "a command whose program is executable", mode, f"chmod +x {file}")


def _file_at(path: Path) -> Path | None:
    """The file behind `path`, links followed; None where there is none, or none can have such a name."""
    try:
        file = path.resolve()
        return file if file.is_file() else None
    except (OSError, RuntimeError):  # a name that is too long, or links in a circle
        return None


def _check_keys(report: Report, at: str, app: AppSettings) -> None:
    """The key to dependencies, and the keys of the servers that have them: both or none."""
    chosen = app.dependencies
    for one, other in (("deploy_key", "known_hosts"), ("known_hosts", "deploy_key")):
        if getattr(chosen, one) is not None and getattr(chosen, other) is None:
            report.add(f"{at}.{one}", f"set together with {other}", show(getattr(chosen, one)), f"set {other} too")
    check_ssh_key(report, f"{at}.deploy_key", app.dependencies_key_local, login=False)
    check_text(report, f"{at}.known_hosts", app.dependencies_hosts_local, "a known_hosts file")


def _check_migration_times(report: Report, at: str, app: AppSettings) -> None:
    longest = app.migrate_statement_timeout
    path = f"{at}.migrate_statement_timeout"
    if longest is None:
        return
    if longest <= app.migrate_lock_timeout:
        expected = f"more than migrate_lock_timeout ({app.migrate_lock_timeout}), because waiting for a lock counts"
        report.add(path, expected, show(longest), "write a larger number, or lower migrate_lock_timeout too")
    elif longest > app.migrate_timeout:
        do = "write a smaller number, or raise migrate_timeout too"
        report.add(path, f"at most migrate_timeout ({app.migrate_timeout})", show(longest), do)


def _check_migration_config(report: Report, at: str, app: AppSettings) -> None:
    if app.migrate_config is not None and app.migrate != "auto":
        do = 'remove it, or write "auto" for migrate'
        report.add(f"{at}.migrate_config", 'None unless migrate is "auto"', show(app.migrate_config), do)


def _check_server(report: Report, at: str, app: AppSettings) -> None:
    """What an app asks of its server: all of it can be followed, and goes together."""
    refused = app.runs_under.refused
    if app.max_requests_jitter and not app.max_requests:
        do = "set max_requests too, such as 10000, or remove max_requests_jitter"
        report.add(f"{at}.max_requests_jitter", "0 without max_requests", show(app.max_requests_jitter), do)
    for name, why in refused.items():
        if name in app.model_fields_set and getattr(app, name) not in (None, 0, False):
            report.add(f"{at}.{name}", f"left out with server {show(app.server)}", show(getattr(app, name)), why)
    if app.interface and app.interface not in app.runs_under.interfaces:
        fit = [each.name for each in SERVERS.values() if app.interface in each.interfaces]
        do = f"write server as one of {', '.join(map(show, fit))}"
        report.add(f"{at}.server", f"a server of {app.interface.upper()}", show(app.server), do)
    if "keep_alive" not in refused and app.keep_alive <= NGINX_KEEPS:
        expected = f"more than the {NGINX_KEEPS} seconds that nginx keeps an idle connection"
        report.add(f"{at}.keep_alive", expected, show(app.keep_alive), "leave it out: requests would be lost")
    if app.interface == "wsgi" and app.concurrency is not None and app.concurrency <= app.threads:
        do = "write a larger number, or lower threads: with fewer, no connection of nginx's would be kept"
        report.add(f"{at}.concurrency", f"more than threads ({app.threads})", show(app.concurrency), do)


def check_app(report: Report, at: str, app: AppSettings, settings: Settings) -> None:
    """Judge one app, at the path `at`."""
    if isinstance(app.source, GitSource):
        check_git_source(report, f"{at}.source", app, app.source)
    else:
        check_folder(report, f"{at}.source", app, app.source)
    _check_keys(report, f"{at}.dependencies", app)
    _check_environment(report, at, app)
    check_domains(report, at, app, settings)
    check_tls(report, f"{at}.tls", app)
    _check_commands(report, at, app)
    _check_scheduler(report, at, app)
    _check_migration_config(report, at, app)
    _check_migration_times(report, at, app)
    _check_server(report, at, app)
    if app.factory is False and app.app and app.app.endswith(")"):
        report.add(f"{at}.factory", "left out with a call in app", "False", "remove it, or the call in app")
    check_static(report, f"{at}.static", app)
    check_shared(report, at, app)
    check_text(report, f"{at}.nginx_extra", app.nginx_extra_local, "a file with nginx directives")
