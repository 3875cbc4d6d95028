"""What a certificate is for: asked by the role that orders it, and by the one whose sites serve it."""

from __future__ import annotations

from slipway_host.layout import LAYOUT

from slipway.engine.operations import shell_line
from slipway.settings import AppSettings, Settings

# $1 name, $2 ACME server, $3 "DNS:name" of each domain, sorted, joined by commas
_HAS = f"""
certificate={LAYOUT.certificate("$1")}
grep -qsxF "server = $2" "{LAYOUT.renewal("$1")}" || exit 0
told=$(openssl x509 -in "$certificate" -noout -ext subjectAltName -checkend 0 2>/dev/null) || exit 0
names=$(echo "$told" | grep DNS: | tr -d ' ' | tr , '\\n' | LC_ALL=C sort | paste -sd ,)
[ "$names" != "$3" ] || echo "$names"
"""


def ordered(settings: Settings, app: AppSettings) -> str:
    """The shell question whether a valid certificate for just the app's domains has come from this ACME server."""
    return shell_line(_HAS, app.name, settings.acme_directory_url, alternative_names(app))


def alternative_names(app: AppSettings) -> str:
    """The app's domains as openssl prints those of a certificate: sorted, joined by commas."""
    return ",".join(sorted(f"DNS:{domain}" for domain in app.domains))
