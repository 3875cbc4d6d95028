"""What a certificate is for: asked by the role that orders it, and by the one whose sites serve it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slipway.engine.host import certificate_of
from slipway.settings import AppSettings, Settings


def ordered(settings: Settings, app: AppSettings, facts: Mapping[str, Any]) -> bool:
    """Whether a valid certificate for just the app's domains has come from this ACME server.

    + facts: of `HostFacts`
    """
    told = certificate_of(facts, app.name)
    wanted = (settings.acme_directory_url, sorted(app.domains), True)
    return bool(told) and (told["server"], sorted(told["domains"]), told["valid"]) == wanted
