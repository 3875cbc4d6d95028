"""What to do about an application that can't be imported. Managed by Slipway (roles/release).

`slipway_look.py` asks it, in the release's own Python.
"""

import re

PACKAGES = {"psycopg2": "psycopg2_binary", "MySQLdb": "mysqlclient", "yaml": "pyyaml", "PIL": "pillow", "jwt": "pyjwt"}
PACKAGES |= {"storages": "django_storages", "environ": "django_environ"}
"""Module → package that brings it under another name."""
ALONE = {"pkg_resources": "setuptools<81", "distutils": "setuptools", "_cffi_backend": "cffi", "bs4": "beautifulsoup4"}
"""Module → package that brings it, and that a project seldom names."""
VARIABLE = r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+|[A-Z]{5,}"
WANTED = (
    # django-environ, Django, decouple, environs, starlette.config, and what people write
    re.compile(rf"(?i:set the|missing|undefined|undeclared|not defined|required)\W+(?:\w+\W+){{0,4}}?({VARIABLE})\b"),
    re.compile(rf"({VARIABLE})\b\W+(?:\w+\W+){{0,4}}?(?i:not set|not found|is missing|is required|must be set)"),
)
"""Words about a variable of the environment that is missing."""


def hint(error, folder, project):
    """A line that names the setting; empty if the error tells of none.

    + project: content of pyproject.toml
    """
    chain = [error]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    if names := next(filter(None, map(variables, chain)), None):
        return f"\nThe app wants variables that it doesn't have: set {', '.join(names)} in env, or in env_file."
    lacking = next((each for each in chain if isinstance(each, ModuleNotFoundError) and each.name), None)
    return module(lacking.name.partition(".")[0], folder, project) if lacking else ""


def variables(error):
    """Names of the variables of the environment that an error says are missing."""
    if isinstance(error, KeyError) and error.args and re.fullmatch(VARIABLE, str(error.args[0])):
        return [str(error.args[0])]
    told = getattr(error, "errors", None)
    if callable(told) and type(error).__name__ == "ValidationError":  # pydantic's
        found = [each for each in told() if each.get("type") in ("missing", "value_error.missing")]
        named = [".".join(map(str, each.get("loc", ()))).upper() for each in found]
        return [each for each in named if re.fullmatch(r"[A-Z_][A-Z0-9_]*", each)]
    if isinstance(error, ModuleNotFoundError):
        return []
    text = str(error)
    return list(dict.fromkeys(match[1] for pattern in WANTED for match in pattern.finditer(text)))[:5]


def module(name, folder, project):
    """What to do about a module that isn't there."""
    for setting, group in brought(name, project):
        return f'\nThe project has {name} in its {setting} "{group}": add that to dependencies.{setting}.'
    found = [*folder.glob(f"*/{name}.py"), *(each.parent for each in folder.glob(f"*/{name}/*.py"))]
    places = sorted({each.parent.name for each in found if not each.parent.name.startswith(".")})
    if places:
        return f'\nThere is a {name} in {places[0]}: set python_path to ["{places[0]}"].'
    package = ALONE.get(name, PACKAGES.get(name, name)).replace("_", "-")
    return f'\nNo package of the release brings {name}: add it to the project, or "{package}" to dependencies.more.'


def brought(name, project):
    """Setting and name of the extras and groups of a project that bring a module."""
    own, poetry = project.get("project", {}), project.get("tool", {}).get("poetry", {})
    tables = (
        ("extras", own.get("optional-dependencies", {})),
        ("extras", poetry.get("extras", {})),
        ("groups", project.get("dependency-groups", {})),
        ("groups", {group: each.get("dependencies", {}) for group, each in poetry.get("group", {}).items()}),
    )
    wanted = {name.lower(), f"python_{name.lower()}", PACKAGES.get(name)}
    for setting, table in tables:
        for group, packages in table.items():
            texts = [each for each in packages if isinstance(each, str)]
            if wanted & {re.split(r"[\s\[(;<>=!~@]", each)[0].lower().replace("-", "_") for each in texts}:
                yield setting, group
