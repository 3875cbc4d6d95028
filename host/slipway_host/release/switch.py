"""switch and commit: it serves, and it is the current."""

from __future__ import annotations

from slipway_host.proxy import nginx
from slipway_host.release import check, current, heal, processes
from slipway_host.release.processes import web

TYPE_CHECKING = False
if TYPE_CHECKING:
    from slipway_host.release.app import App


def switch(app: App, release: str) -> str | None:
    """Let nginx send new requests to the new release. Until the commit both are enabled, in case of a reboot."""
    if before := app.serving():
        for process in processes.of(app, before):
            process.keep(app, before)
    # For the next boot only: the running systemd needn't read the links.
    app.systemd.ctl("enable", "--quiet", "--no-reload", *processes.units(app, release))
    app.write_record(release, switched=app.system.stamp())
    check.flush(app)  # from here on a boot may start the new one
    nginx.Nginx(app.system).switch(app.name, release)
    return web.public(app, release)


def commit(app: App, release: str) -> None:
    """Let `current` name the new release, and let the old one go."""
    from concurrent.futures import ThreadPoolExecutor

    before = current.confirm(app, release)
    with ThreadPoolExecutor() as pool:  # to delete a release takes as long as everything else
        pruned = pool.submit(heal.prune, app, release, before)
        current.leave(app, before, release)
    pruned.result()
    heal.tidy(app)
