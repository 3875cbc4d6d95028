"""Finds the application of a release, and tells what it is. Managed by Slipway (roles/release).

The check of a release runs it with the release's own Python, in the app's folder, environment and sandbox. It reads a
line with a mark from its standard input, which the app doesn't know, and a line of JSON:

  app         what to load, or "" where it is to be found
  interface   "asgi", "wsgi", or null where that is to be told
  factory     whether the application is what the object returns; null where that is to be told
  server      name of the server
  modules     interface → modules that the server's start imports
  versions    package → versions of it that fit

The answer follows the mark: app (with parentheses for a factory), interface, where it was found, and which of the usual
paths of health checks the application has, as far as its routes are known. Without one the last lines say why.
"""

import contextlib
import gc
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import os
import re
import sys
import traceback
from pathlib import Path

import slipway_hints
import slipway_served
from slipway_search import Failed, candidates, only, project, shown, started

HEALTH = (
    *("/readyz", "/ready", "/health/ready", "/healthz", "/health", "/api/health", "/api/healthz", "/healthcheck"),
    *("/health/live", "/livez", "/live", "/ping", "/up", "/status", "/_health", "/-/health"),
)
"""Paths that usually tell whether an application can serve, the best first."""
WRAPPED = ("app", "_app", "application", "wrapped", "asgi_app", "wsgi_app", "asgi_handler", "handler")
"""Where a wrapper has what it wraps."""
DEEPEST = 10  # wrappers, and routers in routers


# ── what it is ───────────────────────────────────────────────────────────────────────────────────────────────────────


def kind(found):
    """ "asgi", "wsgi", "factory", "asgi2", or None where its signature doesn't tell."""
    if not callable(found):
        return None
    try:
        parameters = inspect.signature(found).parameters.values()
    except (TypeError, ValueError):
        return None
    places = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    needed = [each for each in places if each.default is each.empty]
    asynchronous = inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(type(found).__call__)
    if len(needed) <= 3 <= len(places) and (asynchronous or len(needed) == 3):
        return "asgi"
    if asynchronous:
        return None
    if len(needed) == 2:
        return "wsgi"
    if len(needed) == 1 and needed[0].name == "scope":
        return "asgi2"
    several = any(each.kind == each.VAR_POSITIONAL for each in parameters)
    return "factory" if not needed and not several and (inspect.isroutine(found) or inspect.isclass(found)) else None


def looked_at(spec, asked):
    """The application as it is to be loaded, and its interface."""
    found = slipway_served.named(spec)
    called = slipway_served.parse(spec)[2] is not None
    if not callable(found):
        raise Failed(f"{spec} is no application, but a {type(found).__name__}: correct the setting app.")
    told = "factory" if called else kind(found)
    factory = called or (told == "factory" if asked["factory"] is None else asked["factory"])
    whole = f"{spec}()" if factory and not called else spec
    if asked["interface"]:
        return whole, asked["interface"], None if factory else found
    if factory:
        try:
            made = slipway_served.load(whole)
        except Exception as error:
            traceback.print_exc()
            told = slipway_hints.hint(error, Path.cwd(), project(Path.cwd()))
            raise Failed(
                f"{whole} fails. It was called to tell what it makes; if it needs the migrated database, set interface "
                f'to "asgi" or "wsgi".{told}'
            ) from None
        told, found = kind(made), made
    if told == "asgi2":
        raise Failed(f"{whole} is an ASGI 2 application, which no server here serves: wrap it for ASGI 3.")
    if told not in ("asgi", "wsgi"):
        advice = 'set interface to "asgi" or "wsgi"' if told is None else "correct the setting app"
        raise Failed(f"What {whole} is can't be told from its signature: {advice}.")
    return whole, told, found


# ── how it is asked whether it is ready ──────────────────────────────────────────────────────────────────────────────


def health(found):
    """Of `HEALTH` those that an application has a route for."""
    known = set()
    for _ in range(DEEPEST):
        with contextlib.suppress(Exception):  # of whichever framework, in whichever version
            known = set(paths(found))
        if known:
            break
        found = next((each for each in (getattr(found, name, None) for name in WRAPPED) if callable(each)), None)
        if found is None:
            break
    spelled = {f"/{each.strip('/')}": f"/{each.lstrip('/')}" for each in sorted(known)}
    return [spelled[path] for path in HEALTH if path in spelled]


def paths(found):
    """The paths of an application's routes: of Starlette and FastAPI, Litestar, Flask and Quart, Django."""
    if (rules := getattr(found, "url_map", None)) is not None:
        return [rule.rule for rule in rules.iter_rules() if "GET" in (rule.methods or {"GET"})]
    if type(found).__module__.startswith("django.core.handlers"):
        return django_paths(importlib.import_module("django.urls").get_resolver(), "")
    return route_paths(getattr(found, "routes", ()), "")


def route_paths(routes, start, depth=0):
    """Those of routes that have a path, and of what is mounted."""
    for route in routes:
        path = start + (getattr(route, "path", "") or "")
        inner = None if depth > DEEPEST else getattr(route, "routes", None)
        if inner:
            yield from route_paths(inner, path, depth + 1)
        elif not hasattr(route, "path"):  # what FastAPI has for a router that is included, from 0.13x on
            asked = ({"type": "http", "method": "GET", "path": each, "root_path": start} for each in HEALTH)
            yield from (
                start + scope["path"] for scope in asked if route.matches({**scope, "headers": []})[0].value == 2
            )
        elif "GET" in (getattr(route, "methods", None) or {"GET"}):
            yield path


def django_paths(resolver, start, depth=0):
    """Those of patterns that are plain text."""
    for each in resolver.url_patterns:
        path = start + str(each.pattern)
        if hasattr(each, "url_patterns"):
            if depth < DEEPEST:
                yield from django_paths(each, path, depth + 1)
        else:
            yield path.replace("^", "").removesuffix("$").replace("\\Z", "")


def fits(version, wanted):
    """Whether a version is within such as ``>=23,<28``."""
    numbers = number(version)
    return all(
        numbers >= number(each[2:]) if each.startswith(">=") else numbers < number(each[1:])
        for each in wanted.split(",")
    )


def number(version):
    return [int(each) for each in re.findall(r"\d+", re.match(r"[\d.]*", version)[0])]


def server_fits(asked, interface):
    """Raise Failed unless what the server's start needs is there, in versions that fit."""
    for package, wanted in asked["versions"].items():
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        if not fits(version, wanted):
            raise Failed(f"The release has {package} {version}, and its server needs {package} {wanted}.")
    for module in asked["modules"].get(interface, ()):
        try:
            importlib.import_module(module)
        except ImportError:
            traceback.print_exc()
            raise Failed(f"Its server {asked['server']} can't be imported.") from None


def answer(asked, folder):
    """What was found."""
    spec, where = asked["app"], None
    if not spec:
        spec, where = next(iter(candidates(folder)), None) or only(folder)
    if start := started(spec):
        file, line = start
        raise Failed(
            f"{shown(file, folder)} starts a server of its own when it is imported (line {line}): put that below "
            '`if __name__ == "__main__":`.'
        )
    try:
        whole, interface, found = looked_at(spec, asked)
    except Failed:
        raise
    except BaseException as error:
        traceback.print_exc()
        raise Failed(f"{spec} can't be imported.{slipway_hints.hint(error, folder, project(folder))}") from None
    server_fits(asked, interface)
    return {"app": whole, "interface": interface, "where": where, "health": health(found)}


def main():
    """Answer the question on standard input. Returns the exit code."""
    mark, asked = sys.stdin.readline().rstrip("\n"), json.loads(sys.stdin.readline())
    folder = Path.cwd()
    slipway_served.enter(str(folder))
    gc.disable()  # it would take a third of the time
    try:
        told = answer(asked, folder)
    except Failed as error:
        print(error, flush=True)
        return 1
    print(f"\n{mark}{json.dumps(told)}", flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # an app's threads may go on
