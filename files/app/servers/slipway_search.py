"""Searches a source for its application, and imports nothing of it. Managed by Slipway (roles/release)."""

import ast
import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path

import slipway_served

OBJECTS = ("app", "application", "asgi_app", "wsgi_app", "asgi", "wsgi", "api", "server")
"""Names that an application has, the usual first."""
FACTORIES = ("create_app", "make_app", "get_app", "build_app", "create_application", "get_application", "app_factory")
MODULES = ("main", "app", "asgi", "wsgi", "server", "api", "web", "run", "application")
"""Names of modules that have one, on top or in the app's package."""
FOLDERS = ("app", "src", "api", "backend", "server")
"""Packages that aren't named after the project."""
SKIPPED = re.compile(r"\.|__|(tests?|testing|docs?|examples?|migrations|alembic|node_modules|site-packages|venv|env)$")
"""Beginning of the name of a folder that isn't searched."""
DEEPEST = 4
"""Folders below each other that are searched where nothing usual is found."""
MOST_FILES = 2000
"""Of such a search."""
MENTIONED = re.compile(rb"(?i)\b(fastapi|flask|starlette|litestar|quart|sanic|bottle|falcon|django|[aw]sgi)")
"""What a file with an application names."""
VARIABLES = ("LITESTAR_APP", "FLASK_APP")
"""What frameworks' own commands go by."""


class Failed(Exception):
    """What a person reads instead of an answer."""


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
    if not settings:  # Flask-Script's, for example
        return
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
            found |= {
                each.asname or each.name for each in node.names if is_usual(each) and not is_module(node, each, file)
            }
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            nodes += node.body
    return [each for each in (*OBJECTS, *FACTORIES) if each in found]


def is_usual(imported):
    """Whether what is imported has an application's name."""
    return imported.name in OBJECTS or imported.asname in OBJECTS


def is_module(node, imported, file):
    """Whether `from … import …` brings a module that lies beside the file, and no object."""
    if node.level != 1 and node.module:
        name = Path(*node.module.split("."))
        places = [each / name for each in (file.parent, *file.parents[:DEEPEST])]
    else:
        places = [file.parent.joinpath(*(node.module or "").split("."))]
    return any((each / f"{imported.name}.py").is_file() or (each / imported.name).is_dir() for each in places)


def elsewhere(folder):
    """Application, its file and the folder that its imports begin at, of all files below the folder that may have one.

    The likeliest come first.
    """
    found, level = [], [folder]
    for _ in range(DEEPEST + 1):
        entries = [entry for each in level for entry in sorted(each.iterdir()) if not SKIPPED.match(entry.name)]
        found += [each for each in entries if each.suffix == ".py" and each.is_file()]
        level = [each for each in entries if each.is_dir() and not each.is_symlink()]
    usual = {name: number for number, name in enumerate(("asgi", "wsgi", *MODULES))}
    found.sort(key=lambda file: (usual.get(file.stem, len(usual)), len(file.parts), file))
    for file in found[:MOST_FILES]:
        if not MENTIONED.search(file.read_bytes()):
            continue
        top = file.parent
        while (top / "__init__.py").is_file() and top != folder:
            top = top.parent
        module = ".".join(file.relative_to(top).with_suffix("").parts).removesuffix(".__init__")
        yield from ((f"{module}:{name}", file, top) for name in names(file)[:1] if name not in ("api", "server"))


def only(folder):
    """The application where nothing usual has one, and where it was found. Raises Failed unless there is just one."""
    found = list(elsewhere(folder))
    if len(found) == 1:
        spec, file, top = found[0]
        if str(top) not in sys.path:
            inner = top.relative_to(folder)
            raise Failed(f'The application may be in {shown(file, folder)}: set python_path to ["{inner}"].')
        return spec, shown(file, folder)
    if found:
        several = ", ".join(f'"{spec}" ({shown(file, folder)})' for spec, file, _ in found[:3])
        raise Failed(f"No usual place has the application. Set app to one of these, or another: {several}.")
    raise Failed(f'No application was found: set app to module:attribute, such as "main:app", of a module in {folder}.')


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
