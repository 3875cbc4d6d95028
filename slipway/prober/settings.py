"""From an app's settings and an inventory's "verify" to where traffic goes and what it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slipway.prober.models import Load, ProberError, Site

if TYPE_CHECKING:
    from slipway.settings import AppSettings

_VERIFY = ("address", "http_port", "https_port", "ca_file")


def site_and_load(settings_app: AppSettings, verify: Mapping[str, Any]) -> tuple[Site, Load]:
    """The site of an app's first domain, and the traffic that its ``probe`` settings ask for.

    + verify: the key "verify" of the host's data, as tests/host reads it; empty: the domain as DNS has it, at port 80
      or 443, with this machine's trust store. A relative ``ca_file`` is relative to the inventory.

    Raises ProberError for an unknown key in `verify`.
    """
    if unknown := sorted(set(verify) - set(_VERIFY)):
        raise ProberError(f'"verify" has no {", ".join(unknown)}; it takes {", ".join(_VERIFY)}')
    mode, probe = settings_app.tls.mode, settings_app.probe
    # Only the settings know the inventory's folder.
    ca_file = settings_app.local(verify.get("ca_file") or None)
    site = Site(
        settings_app.public_url,
        address=verify.get("address"),
        port=verify.get("http_port" if mode == "off" else "https_port"),
        ca_file=None if ca_file is None else str(ca_file),
        verify=mode != "self-signed",
    )
    load = Load(
        short=tuple(settings_app.probe_paths),
        lenient=not probe.short and not settings_app.has_health,
        slow=probe.slow,
        upload=probe.upload,
        websocket=probe.websocket,
        stream=probe.stream,
        connections=probe.connections,
        rate=probe.rate,
    )
    return site, load
