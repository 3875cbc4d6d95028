"""One host: settings of it, and of its apps together, that contradict each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from slipway.settings.checks.app import check_app
from slipway.settings.checks.report import Report, check_text, read_env
from slipway.settings.checks.tls import check_acme
from slipway.settings.errors import show, under
from slipway.settings.host import Settings
from slipway.settings.python import UvSettings


def _twice(apps: Iterator[tuple[str, Any]]) -> dict[Any, list[str]]:
    users: dict[Any, list[str]] = {}
    for name, value in apps:
        if value is not None and name not in users.setdefault(value, []):
            users[value].append(name)
    return {value: names for value, names in users.items() if len(names) > 1}


def check_login(report: Report, settings: Settings, at: Callable[..., str], user: object) -> None:
    """Check access together with `user`, the inventory's ssh_user."""
    if settings.ssh.enabled and not settings.ssh.root_login and user in ("root", None):
        found = '"ssh_user": "root"' if user else "no ssh_user"
        do = 'set ssh_user to another user who may sudo, with "_sudo": True, or root_login to True'
        report.add(at("ssh", "root_login"), "True as long as the inventory logs in as root", found, do)


def _check_access(report: Report, at: Callable[..., str], settings: Settings) -> None:
    operator = settings.operator
    keys = at("operator", "authorized_keys")
    if operator.user is not None and not operator.authorized_keys and not any(under(bad, keys) for bad in report.bad):
        do = 'add "authorized_keys": ["ssh-ed25519 AAAA… me@laptop"]'
        report.add(keys, "at least one public key for the user", "none", do)
    if operator.user is None and operator.authorized_keys:
        report.add(at("operator", "user"), "the user whose keys these are", "None", 'add "user": "deploy"')
    if operator.user in settings.apps:
        report.add(at("operator", "user"), "a name that no app has", show(operator.user), "choose another")
    check_text(report, at("ssh", "extra"), settings.ssh_extra_local, "a file with directives of sshd_config")
    check_text(report, at("firewall", "extra"), settings.firewall_extra_local, "a file with nftables rules")


def check(settings: Settings, report: Report, at: Callable[..., str]) -> None:
    """Judge what `settings` say together; `at` gives the path of a setting from its keys.

    Reads every file that the settings name, and keeps the variables of the .env files in the settings.
    """
    settings._environment = read_env(report, at("env_file"), settings.env_local, of_app=False)
    for name, app in settings.apps.items():
        app._environment = read_env(report, at("apps", name, "env_file"), app.env_local, of_app=True)
        check_app(report, at("apps", name), app, settings)
    apps = settings.apps.items()
    for domain, names in _twice((name, domain) for name, app in apps for domain in app.domains).items():
        for name in names[1:]:
            found = f"{show(domain)} also in {at('apps', names[0], 'domains')}"
            report.add(at("apps", name, "domains"), "names that no other app has", found, "remove it from one of them")
    for port, names in _twice((name, app.port) for name, app in apps).items():
        for name in names[1:]:
            found = f"{port}, also in {at('apps', names[0], 'port')}"
            report.add(at("apps", name, "port"), "a port that no other app has", found, "choose another")
    uv, known = settings.python.uv, UvSettings()
    if uv.version != known.version and not uv.sha256:
        found = f"uv {uv.version} without its SHA-256"
        do = "copy the SHA-256 of the manylinux wheels from https://pypi.org/project/uv/#files"
        report.add(at("python", "uv", "sha256"), f"a SHA-256 for another uv than {known.version}", found, do)
    check_acme(report, at("acme"), settings)
    _check_access(report, at, settings)
    check_text(report, at("nginx", "extra"), settings.nginx_extra_local, "a file with nginx directives")
