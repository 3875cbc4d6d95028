"""What is said for one run, on pyinfra's command line as ``--data KEY=VALUE``, instead of in an inventory."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from slipway.settings import types as t
from slipway.settings.app import AppSettings
from slipway.settings.errors import Problem, SettingsError, show
from slipway.settings.host import Settings

COMMAND_LINE = "command line"
"""What messages call the place of these options."""

_WORDS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NEAR = 0.7  # how alike a name must be to be taken for one of ours; any other may belong to another program


def _switch(name: str) -> t.Narrow:
    return t.Narrow("true or false (yes, no, 1 and 0 will do)", f"write --data {name}=true, or leave it out")


@dataclass(frozen=True, config=ConfigDict(strict=True, extra="forbid"))
class RunOptions:
    """The options of one run; what isn't given has its default. Not a pydantic model, as those have a ``schema``."""

    prove: Annotated[bool, _switch("prove")] = False
    """Send traffic to the apps while they are released (each app's ``probe`` says what), and fail the run if a request
    is lost."""
    app: Annotated[str, t.Narrow("the name of an app", "write --data app=NAME, or leave it out for all")] | None = None
    """Only this app; None: every app of the host."""
    contract: Annotated[bool, _switch("contract")] = False
    """Consent to migrations that can break the release that still serves."""
    again: Annotated[bool, _switch("again")] = False
    """Release again what was rolled back from."""
    fresh: Annotated[bool, _switch("fresh")] = False
    """Build a release from empty caches, even if nothing has changed. Nothing of an earlier build is used."""
    stop_first: Annotated[bool, _switch("stop_first")] = False
    """End every process of the app before the new release is tried, or the one to go back to: requests are lost until
    it serves. For the day on which what serves was taken over, and kills what is to take its place."""
    to: t.ReleaseRef | None = None
    """The release to roll back to (``tasks/rollback.py``): its id, or the beginning of that or of its commit. None: the
    one before."""
    schema: (
        Annotated[
            Literal["code-only", "downgrade"],
            t.Narrow(
                'one of "code-only", "downgrade"',
                "write --data schema=code-only to leave the database as it is, or --data schema=downgrade to take its "
                "migrations back",
            ),
        ]
        | None
    ) = None
    """What to do with a database that is ahead of the older release; None: refuse the rollback."""
    json: Annotated[bool, _switch("json")] = False
    """Show the history (``tasks/releases.py``) as lines of JSON, one for each app of each host."""


OPTIONS = tuple(field.name for field in fields(RunOptions))
"""Names of the options."""

_SWITCHES = tuple(field.name for field in fields(RunOptions) if isinstance(field.default, bool))

TAKES = {
    "deploy.py": ("app", "prove", "contract", "again", "fresh", "stop_first"),
    "tasks/release.py": ("app", "prove", "contract", "again", "fresh", "stop_first"),
    "tasks/rollback.py": ("app", "prove", "stop_first", "to", "schema"),
    "tasks/releases.py": ("app", "json"),
}
"""What pyinfra runs → the options that mean something to it."""


@plain_dataclass(frozen=True)
class Given:
    """One ``--data`` of a command line."""

    name: str
    text: str | None
    """What stands behind =; None where there is none, on which pyinfra would fail."""


def given_in(arguments: Sequence[str]) -> list[Given]:
    """Every ``--data`` among the arguments of pyinfra, as they were written: what comes after ``--`` isn't pyinfra's.

    pyinfra itself reads values as JSON where it can, and so makes another text of a commit such as 0123456 or 12e4567.
    """
    words = list(arguments)
    words = words[: words.index("--")] if "--" in words else words
    texts: list[str] = []
    for position, word in enumerate(words):
        if word == "--data" and position + 1 < len(words):
            texts.append(words[position + 1])
        elif word.startswith("--data="):
            texts.append(word.removeprefix("--data="))
    parts = [text.partition("=") for text in texts]
    return [Given(name, value if mark else None) for name, mark, value in parts]


def dry_run() -> bool:
    """Whether this run only shows what another would do: pyinfra says so only on its command line."""
    return "--dry" in sys.argv


def chosen(settings: Settings, options: RunOptions) -> list[AppSettings]:
    """The apps that a run is about: all, or the one that ``--data app=`` names."""
    return [app for app in settings.apps.values() if options.app in (None, app.name)]


def options_for(host: Any, entry: str) -> RunOptions:
    """The options of this run, for pyinfra's current `host`.

    + entry: what pyinfra runs, one of `TAKES`

    Raises SettingsError with everything that is wrong with them: an app that the host doesn't have, and an option that
    means nothing to `entry`, included.
    """
    data = host.data.dict()
    written = {given.name: given.text for given in given_in(sys.argv[1:]) if given.text is not None}
    values = {name: written.get(name, data[name]) for name in OPTIONS if data.get(name) is not None or name in written}
    options, problems = read_options(values)
    problems += [_not_taken(name, values[name], entry) for name in values if name not in TAKES[entry]]
    if options is not None and not problems:
        problems = list(app_problems(options.app, apps_in(data)))
    if options is None or problems:
        raise SettingsError(COMMAND_LINE, {host.name: problems})
    return options


def read_options(values: Mapping[str, Any]) -> tuple[RunOptions | None, list[Problem]]:
    """Options from their values, which are text or what pyinfra made of it; or what is wrong with them."""
    problems = []
    read: dict[str, Any] = {}
    for name, value in values.items():
        text = value if isinstance(value, str | dict | list) else json.dumps(value, default=repr)
        read[name] = _WORDS.get(text.lower(), text) if name in _SWITCHES and isinstance(text, str) else text
    try:
        return RunOptions(**read), []
    except ValidationError as error:
        details = error.errors(include_url=False)
    for detail in details:
        name = str(detail["loc"][0])
        context = detail.get("ctx", {})
        problems.append(Problem(_path(name, read[name]), context["expected"], show(read[name]), context["do"]))
    return None, problems


def _not_taken(name: str, value: Any, entry: str) -> Problem:
    takers = " or ".join(other for other, taken in TAKES.items() if name in taken)
    expected = f"an option of {entry}: {', '.join(TAKES[entry])}"
    return Problem(_path(name, value), expected, f"one of {takers}", f"leave it out, or run {takers}")


def _path(name: str, value: Any = None) -> str:
    """An option as it was written; without its value where that is long, odd, or not to be shown."""
    shown = f"--data {show(name).strip(chr(34))}"
    return f"{shown}={value}" if show(value) == f'"{value}"' else shown


def apps_in(data: Mapping[str, Any]) -> list[str]:
    """Names of the apps in a host's raw data; what is wrong with them is told elsewhere."""
    settings = data.get("slipway")
    apps = settings.get("apps") if isinstance(settings, dict) else None
    return [str(name) for name in apps] if isinstance(apps, dict) else []


def app_problems(app: str | None, known: Sequence[str], elsewhere: Iterable[str] = ()) -> Iterator[Problem]:
    """What is wrong with ``--data app=`` for a host that has the `known` apps, and others have those `elsewhere`."""
    if app is None or app in known or not known:
        return
    near = difflib.get_close_matches(app, known, n=1)
    do = f"write --data app={near[0]}" if near else "write one of them, or leave it out for all"
    if app in elsewhere:
        do = "name the hosts that have it: slipway … -- --limit HOST"
    yield Problem(_path("app", app), f"an app of this host: {', '.join(known)}", show(app), do)


def command_line_problems(
    arguments: Sequence[str], hosts: Mapping[str, Mapping[str, Any]], places: Mapping[str, str]
) -> dict[str, list[Problem]]:
    """What is wrong with the ``--data`` of a command line: host, or "all hosts" → problems.

    `hosts` are the inventory's with their raw data, `places` what only an inventory may set → where it stands there.
    An unknown name is refused if it looks like one of ours and no host has it; it may belong to another program.
    """
    known = {str(key) for data in hosts.values() for key in data}
    problems: list[Problem] = []
    values: dict[str, str] = {}
    for given in given_in(arguments):
        name, path = given.name, _path(given.name)
        if name in values:
            problems.append(Problem(path, "each option once", f"{show(name)} twice", "keep one of them"))
        elif name not in OPTIONS and (problem := _unknown(name, known, places)):
            problems.append(problem)
        elif given.text is None:
            do = f"write {path}=true" if name in _SWITCHES else "write the name, =, and the value"
            problems.append(Problem(path, "an option as NAME=VALUE", "no =", do))
        elif name in OPTIONS:
            values[name] = given.text
    app, (_, wrong) = values.get("app"), read_options(values)
    result = {"all hosts": [*problems, *wrong]}
    limited = any(word.partition("=")[0] in ("--limit", "--exclude") for word in arguments)
    apps = {name: apps_in(data) for name, data in hosts.items()}
    everywhere = [app for of_host in apps.values() for app in of_host]
    if limited and app in everywhere:  # whether the hosts of this run have it, `options_for` tells
        return result
    return result | {name: list(app_problems(app, of_host, everywhere)) for name, of_host in apps.items()}


def _unknown(name: str, known: Iterable[str], places: Mapping[str, str]) -> Problem | None:
    if name in places:
        do = f"set {places[name]} in the inventory"
        return Problem(_path(name), "an option of a run", f"{show(name)}, which is a setting", do)
    alike = name.strip().lower().strip("-_").replace("-", "_")
    near = difflib.get_close_matches(alike, OPTIONS, n=1, cutoff=_NEAR)
    if not near or name in known:
        return None
    return Problem(_path(name), "an option of a run", f"{show(name)}, which is unknown", f"write --data {near[0]}=…")
