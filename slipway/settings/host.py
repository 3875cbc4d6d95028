"""One host: what may be set of it as a whole, and its apps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PrivateAttr

from slipway import person
from slipway.settings import types as t
from slipway.settings.access import FirewallSettings, OperatorSettings, SshSettings
from slipway.settings.app import AppSettings
from slipway.settings.base import LIST_DO, Model
from slipway.settings.nginx import NginxSettings
from slipway.settings.python import PythonSettings
from slipway.settings.system import SystemSettings, UpdatesSettings
from slipway.settings.tls import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, AcmeSettings


class Settings(Model):
    """Everything about one host."""

    apps: Annotated[
        dict[t.AppName, AppSettings],
        t.Narrow(
            "a mapping of names to apps, at least one",
            'write a mapping, such as {"notes": {"domains": […], "source": {…}, "app": "notes.main:app"}}',
            lambda value: len(value) > 0,
            container=True,
        ),
        Field(examples=[{}]),
    ]
    """The apps, by name: each with its own user, domains and settings. The name is the user's, the units' and the
    folders' on the host, so changing it makes a new app."""
    env_file: t.LocalPath | None = None
    """.env file beside the inventory with secrets of the host (not of an app); chmod 600."""
    timezone: t.Timezone = "Etc/UTC"
    """Time zone of the host's clock and logs."""
    hostname: t.MachineName | None = None
    """The host's own name; None leaves it as it is. Not a domain of an app."""
    packages: Annotated[list[t.Package], t.Narrow("a list of Debian packages", LIST_DO, container=True)] = []
    """Debian packages to install besides what this project needs, such as libraries of an app."""
    journal_max_size: t.JournalSize = "1G"
    """Disk space for the journal, where all logs go (SystemMaxUse of journald.conf). Its own default is a tenth of the
    disk, at most 4G."""
    ssh: Annotated[SshSettings, t.mapping_of("options of sshd", 'write a mapping, such as {"forwarding": "local"}')] = (
        SshSettings()
    )
    """sshd: keys alone, and the algorithms of ssh-audit's hardening guides. A change of it, of the firewall or of the
    operator's account undoes itself unless a new connection proves it."""
    firewall: Annotated[
        FirewallSettings, t.mapping_of("options of the firewall", 'write a mapping, such as {"tcp_ports": [8443]}')
    ] = FirewallSettings()
    """The firewall: an nftables table of its own, which lets in what is said here and drops the rest."""
    operator: Annotated[
        OperatorSettings, t.mapping_of("options of the account", 'write a mapping, such as {"user": "deploy", …}')
    ] = OperatorSettings()
    """An account for people, with sudo and without a password."""
    python: Annotated[
        PythonSettings, t.mapping_of("options of Python", 'write a mapping, such as {"version": "3.13"}')
    ] = PythonSettings()
    """Where Python, uv and packages come from."""
    acme: Annotated[
        AcmeSettings, t.mapping_of("options of ACME", 'write a mapping, such as {"email": "ops@example.com"}')
    ] = AcmeSettings()
    """The certificate authority of the apps with TLS mode "acme"."""
    nginx: Annotated[
        NginxSettings, t.mapping_of("options of nginx", 'write a mapping, such as {"worker_connections": 4096}')
    ] = NginxSettings()
    """nginx as a whole."""
    updates: Annotated[
        UpdatesSettings, t.mapping_of("options of updates", 'write a mapping, such as {"reboot": "04:30"}')
    ] = UpdatesSettings()
    """Security updates, and programs that still run the old code."""
    system: Annotated[
        SystemSettings, t.mapping_of("options of the system", 'write a mapping, such as {"swap_mb": 1024}')
    ] = SystemSettings()
    """Kernel, logins, time and swap."""

    _folder: Path = PrivateAttr(default_factory=Path)
    _host: str = PrivateAttr("")
    _environment: dict[str, str] = PrivateAttr(default_factory=dict)
    _login_files: frozenset[Path] = PrivateAttr(default=frozenset())

    def model_post_init(self, context: Any, /) -> None:
        """Tell each app its name and the host's Python."""
        for name, app in self.apps.items():
            app._name = name
            app._host_python = self.python.version

    def bind(self, *, folder: Path, host: str, login_files: frozenset[Path] = frozenset()) -> None:
        """Say where relative paths start (the inventory's folder) and whose settings these are.

        + login_files: what the connection's data names beside these settings, such as its ssh_key
        """
        self._folder = folder
        self._host = host
        self._login_files = login_files
        for app in self.apps.values():
            app._folder = folder

    @property
    def host(self) -> str:
        """The host's name in the inventory."""
        return self._host

    @property
    def acme_directory_url(self) -> str:
        """The ACME directory that certificates are ordered from."""
        return self.acme.directory or (LETS_ENCRYPT_STAGING if self.acme.staging else LETS_ENCRYPT)

    @property
    def eab_hmac_key(self) -> str | None:
        """HMAC key of the external account binding, from the host's env_file; a secret."""
        return self._environment.get(self.acme.eab_hmac_key_name or "")

    @property
    def secret_files(self) -> frozenset[Path]:
        """The operator's own files that hold secrets, wherever the inventory says that they are."""
        of_apps = [path for app in self.apps.values() for path in _secrets_of(app)]
        of_apps += [path for app in self.apps.values() for path in app.given_files.values()]
        return frozenset(path for path in (self.env_local, *of_apps) if path is not None)

    @property
    def named_files(self) -> frozenset[Path]:
        """All of the operator's own files that the inventory names: each is a property `…_local`; and the login's."""
        owners = (self, *self.apps.values())
        places = ((owner, name) for owner in owners for name in dir(type(owner)) if re.fullmatch("[a-z].*_local", name))
        found = (getattr(owner, name) for owner, name in places)
        given = (path for app in self.apps.values() for path in app.given_files.values())
        return frozenset({*given, *(path for path in found if path is not None), *self._login_files})

    @property
    def secret_values(self) -> frozenset[str]:
        """Values that no output may show: the host's and every app's."""
        own = {value for value in self._environment.values() if value}
        return frozenset(own.union(*(app.secret_values for app in self.apps.values())))

    def _local(self, name: str | None) -> Path | None:
        return None if name is None else (self._folder / person.expanded(name)).resolve()

    @property
    def env_local(self) -> Path | None:
        """Local .env file of the host."""
        return self._local(self.env_file)

    @property
    def acme_ca_local(self) -> Path | None:
        """Local PEM file: the CA of the ACME server."""
        return self._local(self.acme.ca_file)

    @property
    def nginx_extra_local(self) -> Path | None:
        """Local file with nginx directives for the http block."""
        return self._local(self.nginx.extra)

    @property
    def ssh_extra_local(self) -> Path | None:
        """Local file with directives of sshd_config."""
        return self._local(self.ssh.extra)

    @property
    def firewall_extra_local(self) -> Path | None:
        """Local file with nftables rules."""
        return self._local(self.firewall.extra)


def _secrets_of(app: AppSettings) -> tuple[Path | None, ...]:
    return app.env_local, app.deploy_key_local, app.dependencies_key_local, app.key_local
