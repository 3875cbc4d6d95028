"""All that can be known before anything changes: the names alone."""

from __future__ import annotations

from slipway_host.release import manifest as manifests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipway_host.release.app import App


def check(app: App, release: str) -> None:
    """Before anything changes: the app imports, its units and nginx's configuration are valid, the database fits."""
    raise NotImplementedError


def flush(app: App) -> None:
    """Let all that a release consists of outlive a power cut: sources, environment, units, settings, records."""
    manifests.flush(app.at.srv, app.at.etc, app.at.records, app.system.layout.units)


def prepare(app: App, release: str) -> None:
    """Write the release's environment and units."""
    app.at.environments.mkdir(mode=0o750, exist_ok=True)
    environment = app.at.environment.read_text()
    app.system.replace(app.at.env(release), environment + f'RELEASE_ID="{release}"\n', 0o640, app.at.group)
    write_units(app, release, app.wanted["units"])


def write_units(app: App, release: str, texts: Mapping[str, str]) -> None:
    """Write a release's units: kind → text, where ``@RELEASE@`` stands for its id."""
    for kind, text in texts.items():
        app.system.replace(app.system.layout.units / app.at.unit(release, kind), text.replace("@RELEASE@", release))
