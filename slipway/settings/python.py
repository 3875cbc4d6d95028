"""Where Python, uv and packages come from."""

from __future__ import annotations

from typing import Annotated

from slipway.settings import types as t
from slipway.settings.base import Model


class UvSettings(Model):
    """The release of uv that the host gets."""

    version: t.UvVersion = "0.13.8"
    """Release of uv. Another one than the default needs its SHA-256 below."""
    sha256: Annotated[
        dict[t.Architecture, t.Sha256],
        t.mapping_of("x86_64 and aarch64 to SHA-256", 'write a mapping, such as {"x86_64": "64 hexadecimal digits"}'),
    ] = {}
    """Architecture (x86_64, aarch64) → SHA-256 of uv's wheel, as PyPI shows it. Empty: those of the default release,
    which this project knows."""


class PythonSettings(Model):
    """Where Python, uv and packages come from."""

    version: t.PythonVersion = "3.13"
    """Python of the apps that name none. Without a patch number, the newest uv knows when it is first installed."""
    uv: Annotated[UvSettings, t.mapping_of("options of uv", 'write a mapping, such as {"version": "0.13.8"}')] = (
        UvSettings()
    )
    """The tool that installs Pythons and packages."""
    index_url: t.WebUrl | None = None
    """Package index for uv itself and certbot; None is PyPI. Where an app's packages come from is in its lock file."""
    install_mirror: t.FileUrl | None = None
    """Where `uv python install` fetches from instead of its default (UV_PYTHON_INSTALL_MIRROR)."""
    downloads_json_url: t.FileUrl | None = None
    """List of Python downloads (UV_PYTHON_DOWNLOADS_JSON_URL), https:// or file:// on the host."""
    system_certs: t.Switch = True
    """Trust the host's CA store for downloads, as a company's proxy needs; False: the store built into uv."""
