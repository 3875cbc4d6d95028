"""The only reader of inventory data: typed, frozen, every unknown key refused.

`load` turns the ``slipway`` mapping of a host's inventory data into one `Settings` object; `load_for` does so for
pyinfra's current host, `load_inventory` for every host of a file; what is said for one run alone (``--data``) comes
from `options_for`. Roles, templates and the host's tests read these objects and nothing else; every name and path that
follows from a setting is a property of it, so that none is spelled twice. What is wrong is told at once, as a
`SettingsError`, before a host is changed.
"""

from slipway.settings.access import FirewallSettings, OperatorSettings, SshSettings
from slipway.settings.app import AppSettings, Unit
from slipway.settings.environment import placeholder, render_env
from slipway.settings.errors import Problem, SettingsError
from slipway.settings.host import Settings
from slipway.settings.inventory import find_inventory
from slipway.settings.load import check_command_line, load, load_for, load_inventory
from slipway.settings.nginx import HeadersSettings, NginxSettings, RateLimit, StaticSettings
from slipway.settings.options import RunOptions, chosen, dry_run, options_for
from slipway.settings.process import SandboxSettings
from slipway.settings.python import PythonSettings, UvSettings
from slipway.settings.release import HOOKS, HooksSettings, ProbeSettings
from slipway.settings.source import FolderSource, GitSource
from slipway.settings.system import SystemSettings, UpdatesSettings
from slipway.settings.tls import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, AcmeSettings, TlsSettings
from slipway.settings.types.names import SMALLEST_RSA

__all__ = [
    "HOOKS",
    "LETS_ENCRYPT",
    "LETS_ENCRYPT_STAGING",
    "SMALLEST_RSA",
    "AcmeSettings",
    "AppSettings",
    "FirewallSettings",
    "FolderSource",
    "GitSource",
    "HeadersSettings",
    "HooksSettings",
    "NginxSettings",
    "OperatorSettings",
    "ProbeSettings",
    "Problem",
    "PythonSettings",
    "RateLimit",
    "RunOptions",
    "SandboxSettings",
    "Settings",
    "SettingsError",
    "SshSettings",
    "StaticSettings",
    "SystemSettings",
    "TlsSettings",
    "Unit",
    "UpdatesSettings",
    "UvSettings",
    "check_command_line",
    "chosen",
    "dry_run",
    "find_inventory",
    "load",
    "load_for",
    "load_inventory",
    "options_for",
    "placeholder",
    "render_env",
]
