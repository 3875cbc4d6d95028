"""Alembic's configuration where the app itself has it: Flask-Migrate's, and advanced-alchemy's.

The app is imported as its own command would do it (`flask db`, `litestar database`), and what it configures is the
configuration that Alembic gets: all else is as for alembic.ini.
"""

from __future__ import annotations

import ast
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
HOLDERS = ("plugins", "state", "extensions")
"""Where an app of Litestar, Starlette or Flask has advanced-alchemy; a factory has none of them."""


def plain(options: argparse.Namespace) -> Any:
    """Alembic's Config for the scripts beside the file of `--config`, without the app."""
    from alembic.config import Config

    path = Path(options.config)
    config = Config(str(path)) if path.suffix == ".ini" else Config()
    config.set_main_option("script_location", str(path.parent).replace("%", "%%"))
    return config


def by_app(options: argparse.Namespace, work: Callable[[Any], None]) -> None:
    """Call `work` with the Config of the app. Raises Failed if nothing names one, or what does has no such Config."""
    sys.path.insert(0, str(Path.cwd()))
    variable = VARIABLES[options.tool]
    named = os.environ.get(variable) or options.app
    if not named:
        raise Failed(f"Nothing names the app that configures its migrations: set app, or {variable} in env.")
    try:
        {"flask": _flask, "advanced-alchemy": _advanced_alchemy}[options.tool](named, Path(options.config).parent, work)
    except Unnamed as error:
        do = f"correct {variable} in env" if os.environ.get(variable) else f"correct app, or set {variable} in env"
        raise Failed(f"{named} {error}: {do}.") from error


class Unnamed(Exception):
    """What names the app names something else. The message says what is wrong with it."""


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
            raise Unnamed("has no Flask-Migrate")
        work(app.extensions["migrate"].migrate.get_config(str(scripts)))


def _advanced_alchemy(named: str, scripts: Path, work: Callable[[Any], None]) -> None:
    app = _loaded(named)
    from advanced_alchemy.alembic.commands import AlembicCommands

    found = [each for each in _configs(app) if _located(each) == scripts.resolve()]
    if not found:
        raise Unnamed(f"has no configuration of advanced-alchemy with the scripts of {scripts}")
    if len(found) > 1:
        told = f"{named} has {len(found)} configurations of advanced-alchemy with the scripts of {scripts}"
        raise Failed(f"{told}: write the command that upgrades all of them in migrate.")
    work(AlembicCommands(found[0]).config)


def _located(config: Any) -> Path:
    """The folder of the scripts of a configuration of advanced-alchemy."""
    return Path(config.alembic_config.script_location).resolve()


def _loaded(named: str) -> Any:
    """The app that ``module:attribute`` names, or a call with constants of a factory, ``module:make(debug=True)``."""
    module, _, expression = named.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and f"{module}.".startswith(f"{error.name}."):
            raise Unnamed(f"can't be imported: there is no module {error.name}") from error
        raise
    if not expression:
        return found
    try:
        tree = ast.parse(expression, mode="eval").body
        call = tree if isinstance(tree, ast.Call) else None
        places = [ast.literal_eval(each) for each in call.args] if call else []
        names = {str(each.arg): ast.literal_eval(each.value) for each in call.keywords} if call else {}
    except (SyntaxError, ValueError) as error:
        raise Unnamed("is no module:attribute, and no call with constants") from error
    for each in ast.unparse(call.func if call else tree).split("."):
        if not hasattr(found, each):
            raise Unnamed(f"can't be loaded: there is no {each}")
        found = getattr(found, each)
    if call or (callable(found) and not any(hasattr(found, each) for each in HOLDERS)):
        return found(*places, **names)
    return found


def _configs(app: Any) -> list[Any]:
    """The configurations of advanced-alchemy of an app: those that it was given, and those in its own modules."""
    from advanced_alchemy.config.asyncio import SQLAlchemyAsyncConfig
    from advanced_alchemy.config.sync import SQLAlchemySyncConfig

    kinds = (SQLAlchemyAsyncConfig, SQLAlchemySyncConfig)
    given = list(getattr(app, "plugins", None) or ())
    given.append(getattr(getattr(app, "state", None), "advanced_alchemy", None))
    extensions = getattr(app, "extensions", None)
    given.append(extensions.get("advanced_alchemy") if isinstance(extensions, dict) else None)
    configs = [each for one in given for name in ("config", "_config") for each in _listed(getattr(one, name, None))]
    here = f"{Path.cwd()}{os.sep}"
    for other in list(sys.modules.values()):
        if (getattr(other, "__file__", None) or "").startswith(here):
            configs += [each for value in vars(other).values() for each in _listed(value)]
    return list({id(each): each for each in configs if isinstance(each, kinds)}.values())


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]
