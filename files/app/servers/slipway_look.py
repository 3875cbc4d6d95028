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

import ast
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

import slipway_served

OBJECTS = ("app", "application", "asgi_app", "wsgi_app", "asgi", "wsgi", "api", "server")
"""Names that an application has, the usual first."""
FACTORIES = ("create_app", "make_app", "get_app", "build_app", "create_application", "get_application", "app_factory")
MODULES = ("main", "app", "asgi", "wsgi", "server", "api", "web", "run", "application")
"""Names of modules that have one, on top or in the app's package."""
FOLDERS = ("app", "src", "api", "backend", "server")
"""Packages that aren't named after the project."""
VARIABLES = ("LITESTAR_APP", "FLASK_APP")
"""What frameworks' own commands go by."""
HEALTH = (
    *("/readyz", "/ready", "/health/ready", "/healthz", "/health", "/api/health", "/api/healthz", "/healthcheck"),
    *("/health/live", "/livez", "/live", "/ping", "/up", "/status", "/_health", "/-/health"),
)
"""Paths that usually tell whether an application can serve, the best first."""
WRAPPED = ("app", "_app", "application", "wrapped", "asgi_app", "wsgi_app", "asgi_handler", "handler")
"""Where a wrapper has what it wraps."""
DEEPEST = 10  # wrappers, and routers in routers


class Failed(Exception):
    """What a person reads instead of an answer."""


# ── where it is ──────────────────────────────────────────────────────────────────────────────────────────────────────


def project(folder):
    """The content of pyproject.toml; empty if there is none that can be read."""
    try:
        return importlib.import_module("tomllib").loads((folder / "pyproject.toml").read_text("utf-8"))
    except (ImportError, OSError, ValueError):
        return {}


def candidates(folder):
    """Application → where it is named, the best first."""
    told = project(folder)
    tool = told.get("tool", {})
    entry = tool.get("fastapi", {}).get("entrypoint") if isinstance(tool, dict) else None
    if isinstance(entry, str):
        yield entry, "[tool.fastapi] of pyproject.toml"
    for name in VARIABLES:
        if value := os.environ.get(name):
            yield from ((each, f"{name} of the environment") for each in completed(value))
    yield from django(folder)
    named = told.get("project", {}).get("name") if isinstance(told.get("project"), dict) else None
    for module, file in modules(folder, named if isinstance(named, str) else folder.name):
        yield from ((f"{module}:{name}", shown(file, folder)) for name in names(file))


def completed(value):
    """What a variable of a framework names, as module:attribute."""
    value = value.removeprefix("./").removesuffix(".py").replace("/", ".")
    if ":" in value:
        return [value]
    try:
        found = importlib.util.find_spec(value.partition(".")[0])
    except (ImportError, ValueError):
        found = None
    files = [file for module, file in below(value, found)] if found else []
    return [f"{value}:{name}" for file in files for name in names(file)]


def below(module, spec):
    """The file of a module, by the spec of its outermost package: nothing is imported."""
    places = [Path(each) for each in spec.submodule_search_locations or ()]
    inner = module.split(".")[1:]
    if not places:
        return [(module, Path(spec.origin))] if spec.origin and not inner else []
    for place in places:  # several of a package without __init__.py
        found = [place.joinpath(*inner, "__init__.py")]
        found += [place.joinpath(*inner).with_suffix(".py")] if inner else []
        for each in found:
            if each.is_file():
                return [(module, each)]
    return []


def django(folder):
    """The applications of a project of Django's. WSGI comes first: its views seldom are asynchronous."""
    try:
        text = (folder / "manage.py").read_text("utf-8", "replace")
    except OSError:
        return
    found = re.search(r"DJANGO_SETTINGS_MODULE[\"'],\s*[\"']([\w.]+)[\"']", text)
    settings = os.environ.get("DJANGO_SETTINGS_MODULE") or (found[1] if found else "")
    package = folder.joinpath(*settings.split(".")[:1])
    kinds = [each for each in ("wsgi", "asgi") if (package / f"{each}.py").is_file()]
    if "asgi" in kinds and re.search(r"ProtocolTypeRouter|channels", (package / "asgi.py").read_text("utf-8")):
        kinds.sort()
    for kind in kinds:
        yield f"{package.name}.{kind}:application", "manage.py"


def modules(folder, name):
    """Module and file of what usually has an application, the likeliest first."""
    package = re.sub(r"[-.]+", "_", name)
    inner = [f"{package}.{each}" for each in MODULES]
    wanted = [*MODULES[:2], package, *inner, *MODULES[2:]]
    wanted += [f"{each}.{module}" for each in FOLDERS for module in ("", *MODULES)]
    packages = sorted(each.parent.name for each in folder.glob("*/__init__.py") if "test" not in each.parent.name)
    if len(packages) == 1:
        wanted += [packages[0], *(f"{packages[0]}.{each}" for each in MODULES)]
    for module in dict.fromkeys(each.strip(".") for each in wanted):
        top = module.partition(".")[0]
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):  # what takes part in imports may refuse a name
            continue
        if spec:
            yield from ours(below(module, spec), folder, package)


def ours(found, folder, package):
    """Of modules those of the app: not what an installed package has by chance."""
    for module, file in found:
        if (file.is_relative_to(folder) and "site-packages" not in file.parts) or module.partition(".")[0] == package:
            yield module, file


def names(file):
    """Names of a module's objects that may be an application, and of functions that may make one, the usual first."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    found = set()
    nodes = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Assign):
            found |= {each.id for each in node.targets if isinstance(each, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found |= {each.asname or each.name for each in node.names if each.name in OBJECTS or each.asname in OBJECTS}
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            nodes += node.body
    return [each for each in (*OBJECTS, *FACTORIES) if each in found]


def started(spec):
    """File and line where a module starts a server when it is imported, which would never end; or None."""
    try:
        module, attributes, _ = slipway_served.parse(spec)
        found = importlib.util.find_spec(module.partition(".")[0])
        [(_, file)] = below(module, found)
        nodes = ast.parse(file.read_bytes()).body
    except (AttributeError, ImportError, OSError, SyntaxError, ValueError):
        return None
    for node in nodes:
        call = node.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
        if call and ast.unparse(call.func) in (f"{'.'.join(attributes)}.run", "uvicorn.run"):
            return file, node.lineno
    return None


def shown(file, folder):
    """A path as people know it."""
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else file.name


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
        except Exception:
            traceback.print_exc()
            raise Failed(
                f"{whole} fails. It was called to tell what it makes; if it needs the migrated database, set interface "
                'to "asgi" or "wsgi".'
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


def hint(error, folder):
    """What to do about an import that failed."""
    if not isinstance(error, ModuleNotFoundError) or not error.name:
        return ""
    name = error.name.partition(".")[0]
    found = [*folder.glob(f"*/{name}.py"), *(each.parent for each in folder.glob(f"*/{name}/*.py"))]
    places = sorted({each.parent.name for each in found if not each.parent.name.startswith(".")})
    return f'\nThere is a {name} in {places[0]}: set python_path to ["{places[0]}"].' if places else ""


def answer(asked, folder):
    """What was found."""
    spec, where = asked["app"], None
    if not spec:
        found = next(iter(candidates(folder)), None)
        if not found:
            there = [f"{file.stem}:{name}" for file in sorted(folder.glob("*.py")) for name in names(file)[:1]]
            example = there[0] if there else "main:app"
            raise Failed(
                f'No application was found: set app to module:attribute, such as "{example}", of a module in {folder}.'
            )
        spec, where = found
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
        raise Failed(f"{spec} can't be imported.{hint(error, folder)}") from None
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
