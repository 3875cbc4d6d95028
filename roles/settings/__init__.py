"""The only reader of inventory data: typed, frozen, every unknown key refused.

`load` turns the ``slipway`` mapping of a host's inventory data into one `Settings` object; `load_for` does so for
pyinfra's current host, `load_inventory` for every host of a file; what is said for one run alone (``--data``) comes
from `options_for`. Roles, templates and the host's tests read these objects and nothing else; every name and path that
follows from a setting is a property of it, so that none is spelled twice. What is wrong is told at once, as a
`SettingsError`, before a host is changed.
"""

from roles.settings._access import FirewallSettings, OperatorSettings, SshSettings
from roles.settings._environment import placeholder, render_env
from roles.settings._errors import Problem, SettingsError
from roles.settings._load import check_command_line, find_inventory, load, load_for, load_inventory
from roles.settings._models import (
    HOOKS,
    LETS_ENCRYPT,
    LETS_ENCRYPT_STAGING,
    AcmeSettings,
    AppSettings,
    FolderSource,
    GitSource,
    HeadersSettings,
    HooksSettings,
    NginxSettings,
    ProbeSettings,
    PythonSettings,
    RateLimit,
    SandboxSettings,
    Settings,
    StaticSettings,
    TlsSettings,
    Unit,
    UvSettings,
)
from roles.settings._options import RunOptions, chosen, dry_run, options_for
from roles.settings._system import SystemSettings, UpdatesSettings
from roles.settings._types import SMALLEST_RSA

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
