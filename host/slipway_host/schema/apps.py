"""Alembic's configuration where the app itself has it: Flask-Migrate's, and advanced-alchemy's.

The app is imported as its own command would do it (`flask db`, `litestar database`), and what it configures is the
configuration that Alembic gets: all else is as for alembic.ini.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

from slipway_host.schema.errors import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Any

TOOLS = ("flask", "advanced-alchemy")
VARIABLES = {"flask": "FLASK_APP", "advanced-alchemy": "LITESTAR_APP"}
"""Tool → variable of the environment that names the app, before the settings do."""


def plain(options: argparse.Namespace) -> Any:
    """Alembic's Config for the scripts beside the file of `--config`, without the app."""
    from alembic.config import Config

    path = Path(options.config)
    config = Config(str(path)) if path.suffix == ".ini" else Config()
    config.set_main_option("script_location", str(path.parent).replace("%", "%%"))
    return config


def by_app(options: argparse.Namespace, work: Callable[[Any], None]) -> None:
    """Call `work` with the Config of the app."""
    sys.path.insert(0, str(Path.cwd()))
    named = os.environ.get(VARIABLES[options.tool]) or options.app
    if not named:
        raise Failed(f"Nothing names the app: set {VARIABLES[options.tool]} to MODULE:ATTRIBUTE in env.")
    {"flask": _flask, "advanced-alchemy": _advanced_alchemy}[options.tool](named, Path(options.config).parent, work)


def _flask(named: str, scripts: Path, work: Callable[[Any], None]) -> None:
    from flask.cli import NoAppException, ScriptInfo

    try:
        app = ScriptInfo(app_import_path=named).load_app()
    except NoAppException:  # something around it, such as an adapter for ASGI
        try:
            app = ScriptInfo(app_import_path=named.partition(":")[0]).load_app()
        except NoAppException as error:
            raise Failed(f"{error} Set FLASK_APP in env, as for `flask db upgrade`.") from error
    with app.app_context():
        if "migrate" not in app.extensions:
            raise Failed(f"{named} has no Flask-Migrate: set FLASK_APP in env, as for `flask db upgrade`.")
        work(app.extensions["migrate"].migrate.get_config(str(scripts)))


def _advanced_alchemy(named: str, scripts: Path, work: Callable[[Any], None]) -> None:
    from advanced_alchemy.alembic.commands import AlembicCommands

    module, _, attribute = named.partition(":")
    found = [
        each for each in _configs(importlib.import_module(module), attribute) if _located(each) == scripts.resolve()
    ]
    if len(found) != 1:
        told = "no" if not found else f"{len(found)}"
        raise Failed(f"{named} has {told} configuration of advanced-alchemy with the scripts of {scripts}.")
    work(AlembicCommands(found[0]).config)


def _located(config: Any) -> Path:
    """The folder of the scripts of a configuration of advanced-alchemy."""
    return Path(config.alembic_config.script_location).resolve()


def _configs(module: Any, attribute: str) -> list[Any]:
    """The configurations of advanced-alchemy of an app: of Litestar's plugin, else those in its own modules."""
    from advanced_alchemy.config.asyncio import SQLAlchemyAsyncConfig
    from advanced_alchemy.config.sync import SQLAlchemySyncConfig

    kinds = (SQLAlchemyAsyncConfig, SQLAlchemySyncConfig)
    app: Any = module
    for each in filter(None, attribute.split(".")):
        app = getattr(app, each)
    plugins = getattr(app, "plugins", None)
    if plugins is None and callable(app) and not hasattr(app, "state"):  # a factory
        plugins = getattr(app(), "plugins", None)
    configs = [each for plugin in plugins or () for each in _listed(getattr(plugin, "config", None))]
    configs += [each for plugin in plugins or () for each in _listed(getattr(plugin, "_config", None))]
    here = f"{Path.cwd()}{os.sep}"
    for other in list(sys.modules.values()):
        if (getattr(other, "__file__", None) or "").startswith(here):
            configs += [each for value in vars(other).values() for each in _listed(value)]
    return list({id(each): each for each in configs if isinstance(each, kinds)}.values())


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
