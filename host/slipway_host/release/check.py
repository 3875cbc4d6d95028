"""Check: everything that can be known before anything changes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from slipway_host.proxy.nginx import Nginx
from slipway_host.release import database, hooks, jobs, manifest, migrations, processes, served
from slipway_host.release.app import digest_of_text
from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipway_host.release.app import App


def check(app: App, release: str) -> None:
    """Before anything changes: the app imports, its units and nginx's configuration are valid, the database fits."""
    from concurrent.futures import ThreadPoolExecutor

    prepare(app, release)
    hooks.missing_hooks(app, release)
    if isinstance(command := app.wanted["migration"]["command"], list):
        hooks.must_exist(app, release, "migrate", command)
    migrations.required(app, release)
    with ThreadPoolExecutor() as pool:  # the last two take as long as the app's imports, each on a core
        checks = [
            pool.submit(flush, app),  # ahead: little is left to be written when it counts
            pool.submit(Nginx(app.system).check),
            pool.submit(valid_units, app, release),
            pool.submit(can_start, app, release),
        ]
        tool = migrations.of_release(app, release)
        if tool and tool.needs_app:
            checks[-1].result()  # finds the app
        looked = pool.submit(database.look, app, release)
    for each in checks:
        each.result()
    if seen := looked.result():
        app.write_record(release, heads=seen["heads"], pending=seen["pending"], revisions={"before": seen["current"]})
        database.fits(app, seen)


def flush(app: App) -> None:
    """Write a release to the disk, so that it survives a power cut: sources, environment, units, settings, records."""
    try:
        manifest.flush(app.at.srv, app.at.etc, app.at.records, app.system.layout.units)
    except (subprocess.CalledProcessError, OSError) as error:
        raise Failed(f"The release can't be written to the disk ({error}): see `dmesg` and `df -h`.") from error


def valid_units(app: App, release: str) -> None:
    """Raise Failed unless systemd accepts the release's units, and those of its jobs, which it gets at the commit."""
    units, texts = processes.units(app, release), jobs.unit_texts(app, release)
    paths = [str(app.system.layout.units / unit) for unit in units]
    import tempfile  # it takes long to load

    with tempfile.TemporaryDirectory(prefix="slipway-") as folder:
        for unit, text in texts.items():
            path = Path(folder, unit)
            path.write_text(text)
            paths.append(str(path))
        done = app.system.run("systemd-analyze", "verify", *paths, check=False)
    # It ends with 0 even for an unknown key, so what it prints about our files counts.
    complaints = [line for line in done.output.splitlines() if any(unit in line for unit in (*units, *texts))]
    if complaints:
        raise Failed("systemd refuses the unit:\n" + "\n".join(complaints))


def prepare(app: App, release: str) -> None:
    """Write the release's environment and units."""
    app.at.environments.mkdir(mode=0o750, exist_ok=True)
    app.system.chown(app.at.environments, "root", app.at.group)
    environment = app.at.environment.read_text()
    if digest_of_text(environment) != app.wanted["inputs"]["environment"]:
        told = f"{app.at.environment} isn't the environment this release was asked for"
        raise Failed(f"{told}: somebody changed it meanwhile.")
    named = environment + f'RELEASE_ID="{release}"\n'
    if paths := [str(app.work(release) / each) for each in app.wanted.get("python_path", [])]:
        named += f'PYTHONPATH="{":".join(paths)}"\n'
    app.system.replace(app.at.env(release), named, 0o640, app.at.group)
    write_units(app, release, app.wanted["units"])


def write_units(app: App, release: str, texts: Mapping[str, str]) -> None:
    """Write a release's units: kind → text, where ``@RELEASE@`` stands for its id.

    A new release needs no daemon-reload: systemd reads the file of a unit that it doesn't know yet.
    """
    found = app.record(release).get("served", {})
    for kind, text in texts.items():
        path = app.system.layout.units / app.at.unit(release, kind)
        app.system.replace(path, served.filled(text.replace("@RELEASE@", release), found))


def can_start(app: App, release: str) -> None:
    """Raise Failed if a process couldn't start. One after another: they are checked in a unit of one name."""
    for process in processes.of(app, release):
        process.check(app, release)
    jobs.check(app, release)
    write_units(app, release, app.wanted["units"])  # with what was found
