"""What migrates a source's database, and where that is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.release import migrations

from tests.unit.host.prepared import Place, failure, place_at

TEXTS = {
    "pyproject.toml": "[tool.alembic]\n",
    "manage.py": 'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site.settings")\n',
}
INI = "[alembic]\nscript_location = {}\n"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return place_at(tmp_path, monkeypatch)


def found(
    place: Place, *files: str, location: str = "%(here)s/migrations", subdir: str = "", **how: str
) -> list[str] | None:
    """The options of the tool of a source with these files.

    + location: of Alembic's scripts
    + subdir: the app's folder
    + how: the setting `config`, and variables of the environment
    """
    folder = place.at.folder("r1")
    for name in files:
        path = folder / subdir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(TEXTS.get(path.name, INI).format(location))
    wanted = {"app": "notes:app", "migration": {"command": "auto", "config": how.pop("config", None)}}
    tool = migrations.tool_of(place.app, folder, subdir, wanted, how)
    return None if tool is None else [tool.name, *tool.options]


@pytest.mark.parametrize(
    ("files", "options"),
    [
        (["alembic.ini"], []),
        (["pyproject.toml"], []),
        (["alembic.ini", "db/alembic.ini"], []),
        (["db/alembic.ini"], ["--config=db/alembic.ini", "--in=db"]),
        (["src/notes/alembic.ini"], ["--config=src/notes/alembic.ini", "--in=src/notes"]),
        (["backend/pyproject.toml"], ["--in=backend"]),
        (["a/b/alembic.ini", "z/alembic.ini"], ["--config=z/alembic.ini", "--in=z"]),
        (["tests/alembic.ini", ".venv/alembic.ini", "node_modules/x/alembic.ini"], None),
        (["a/b/c/d/alembic.ini"], None),
        ([], None),
    ],
)
def test_alembic_is_found(place: Place, files: list[str], options: list[str] | None) -> None:
    """The nearest one; not in folders of tests and of packages."""
    place.at.folder("r1").mkdir(parents=True)
    assert found(place, *files) == (None if options is None else ["alembic", *options])


@pytest.mark.parametrize("files", [["one/alembic.ini", "two/alembic.ini"], ["one/alembic.ini", "two/manage.py"]])
def test_one_of_several_is_not_guessed(place: Place, files: list[str]) -> None:
    assert failure(found, place, *files) == (
        f"The source has several configurations of migrations ({', '.join(files)}): name one with migrate_config."
    )


@pytest.mark.parametrize(
    ("file", "options"),
    [
        ("manage.py", ["--config=manage.py"]),
        ("src/manage.py", ["--config=src/manage.py", "--in=src"]),
        ("tests/manage.py", None),
    ],
)
def test_django_is_found(place: Place, file: str, options: list[str] | None) -> None:
    assert found(place, file) == (None if options is None else ["django", "--tool=django", *options])


def test_django_by_its_settings(place: Place) -> None:
    place.at.folder("r1").mkdir(parents=True)
    assert found(place, DJANGO_SETTINGS_MODULE="site.settings") == ["django", "--tool=django"]
    assert found(place, "alembic.ini", DJANGO_SETTINGS_MODULE="site.settings") == ["alembic"]
    assert found(place, "alembic.ini", "manage.py", config="manage.py") == [
        "django",
        "--tool=django",
        "--config=manage.py",
    ]


def test_a_manage_py_of_something_else(place: Place) -> None:
    (place.at.folder("r1") / "src").mkdir(parents=True)
    (place.at.folder("r1") / "src/manage.py").write_text("from flask_script import Manager\n")
    assert found(place) is None


@pytest.mark.parametrize(
    ("location", "scripts", "folder"),
    [("migrations", "db/migrations", "--in=db"), ("db/migrations", "db/migrations", None), ("x:y", "y", "--in=db")],
)
def test_a_relative_location_tells_where_alembic_runs(
    place: Place, location: str, scripts: str, folder: str | None
) -> None:
    """Its author ran it in the folder from which the location leads to the scripts."""
    options = found(place, f"{scripts}/env.py", "db/alembic.ini", location=location)
    assert options == ["alembic", "--config=db/alembic.ini", *([folder] if folder else [])]


def test_what_the_settings_name(place: Place) -> None:
    options = ["alembic", "--config=db/own.ini"]
    assert found(place, "alembic.ini", "db/own.ini", config="db/own.ini") == options
    assert found(place, config="db/own.ini", ALEMBIC_CONFIG="alembic.ini") == options
    assert found(place, "x/pyproject.toml", config="x/pyproject.toml") == [
        "alembic",
        "--config=x/pyproject.toml",
        "--in=x",
    ]
    assert failure(lambda: found(place, config="db/other.ini")) == (
        "migrate_config: there is no db/other.ini in the app's folder."
    )


@pytest.mark.parametrize(
    "value", ["db/alembic.ini", "./db/alembic.ini", "{current}/db/alembic.ini", "{releases}/r0/db/alembic.ini"]
)
def test_the_variable_names_a_file_of_this_release(place: Place, value: str) -> None:
    """A path through `current`, or into an earlier release, would migrate with the scripts of that one."""
    named = value.format(current=place.at.current, releases=place.at.releases)
    assert found(place, "db/alembic.ini", ALEMBIC_CONFIG=named) == ["alembic", "--config=db/alembic.ini"]


def test_the_variable_of_an_app_in_a_folder(place: Place) -> None:
    named = {"ALEMBIC_CONFIG": f"{place.at.current}/api/db/alembic.ini"}
    assert found(place, "db/alembic.ini", subdir="api", **named) == ["alembic", "--config=db/alembic.ini"]
    named = {"ALEMBIC_CONFIG": f"{place.at.current}/alembic.ini"}
    assert found(place, "../alembic.ini", subdir="api", **named) == ["alembic", "--config=../alembic.ini"]


def test_the_variable_names_what_is_not_there_or_elsewhere(place: Place) -> None:
    assert failure(lambda: found(place, "alembic.ini", ALEMBIC_CONFIG="db/alembic.ini")) == (
        "ALEMBIC_CONFIG: there is no db/alembic.ini in the app's folder."
    )
    assert found(place, ALEMBIC_CONFIG="/etc/notes/alembic.ini") == ["alembic", "--config=/etc/notes/alembic.ini"]


def test_no_tool_where_none_is_wanted(place: Place) -> None:
    folder = place.migrating()
    for command in (None, ["own"]):
        assert migrations.tool_of(place.app, folder, "", {"migration": {"command": command}}, {}) is None
    assert migrations.of_release(place.app, "r1") is not None
    place.migrates(None)
    assert migrations.of_release(place.app, "r1") is not None, "as it was made"
    place.migrates()
    place.at.env("r1").write_text('ALEMBIC_CONFIG="other.ini"\n')
    assert failure(migrations.of_release, place.app, "r1").startswith("ALEMBIC_CONFIG: there is no other.ini")


FLASK = ["flask", "--tool=flask", "--config={}migrations/alembic.ini", "--app=notes:app"]
ALCHEMY = ["advanced-alchemy", "--tool=advanced-alchemy", "--config={}migrations/env.py", "--app=notes:app"]


@pytest.mark.parametrize("folder", ["", "src/notes/"])
def test_flask_migrate_is_found(place: Place, folder: str) -> None:
    """Its alembic.ini has no location, and its env.py asks the app."""
    at = place.at.folder("r1") / folder / "migrations"
    at.mkdir(parents=True)
    (at / "alembic.ini").write_text("[alembic]\n# file_template = %%(rev)s_%%(slug)s\n")
    (at / "env.py").write_text("from flask import current_app\n")
    (at / "script.py.mako").touch()
    options = [each.format(folder) for each in FLASK]
    assert found(place) == options
    assert found(place, config=f"{folder}migrations/alembic.ini") == options


@pytest.mark.parametrize("configured", [False, True])
def test_advanced_alchemy_is_found(place: Place, configured: bool) -> None:
    """By its env.py, which needs what the app configures; also where there is an alembic.ini for it."""
    at = place.at.folder("r1") / "db/migrations"
    at.mkdir(parents=True)
    (at / "env.py").write_text("from advanced_alchemy.base import metadata_registry\n")
    assert found(place) is None
    (at / "script.py.mako").touch()
    options = [each.format("db/") for each in ALCHEMY]
    assert found(place, *(["db/alembic.ini"] if configured else [])) == options
    (place.at.folder("r1") / "models.py").touch()
    assert failure(lambda: found(place, config="models.py")) == (
        "migrate_config: models.py configures no migrations that Slipway knows."
    )


def test_an_ini_of_advanced_alchemy_that_leads_nowhere(place: Place) -> None:
    """Its command writes one beside the app, which names another folder than that of the scripts."""
    at = place.at.folder("r1") / "db/migrations"
    at.mkdir(parents=True)
    (at / "env.py").write_text("from advanced_alchemy.base import metadata_registry\n")
    (at / "script.py.mako").touch()
    assert found(place, "alembic.ini", location="migrations") == [each.format("db/") for each in ALCHEMY]


def test_the_app_of_a_release_is_the_one_that_was_found(place: Place) -> None:
    """Where app is left out, or is a factory, the check of a release finds it, and writes it down."""
    place.migrating(file=None)
    at = place.at.folder("r1") / "migrations"
    at.mkdir(parents=True)
    (at / "alembic.ini").write_text("[alembic]\n")
    (at / "env.py").write_text("from flask import current_app\n")
    place.app.write_record("r1", wanted={**place.app.wanted, "app": ""})
    tool = migrations.of_release(place.app, "r1")
    assert tool is not None and tool.needs_app
    assert tool.options == ["--tool=flask", "--config=migrations/alembic.ini"]
    place.app.write_record("r1", served={"app": "notes:create_app()", "interface": "wsgi", "where": "notes.py"})
    tool = migrations.of_release(place.app, "r1")
    assert tool is not None and not tool.needs_app
    assert tool.options[-1] == "--app=notes:create_app()"


SECTIONS = "[alembic]\nscript_location = one\n[post_write_hooks]\n[billing]\nscript_location = two\n"


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("alembic.ini", "alembic upgrade head && alembic -n billing upgrade head"),
        (
            "db/alembic.ini",
            "alembic -c db/alembic.ini upgrade head && alembic -c db/alembic.ini -n billing upgrade head",
        ),
    ],
)
def test_sections_for_several_databases_are_not_passed_over(place: Place, path: str, command: str) -> None:
    at = place.at.folder("r1") / path
    at.parent.mkdir(parents=True)
    at.write_text(SECTIONS)
    assert failure(found, place) == (
        f"{path} has a script_location in [alembic], [billing], and Slipway runs [alembic] alone: set migrate to a "
        f"command that runs what you need, such as \"sh -c '{command}'\"."
    )


def test_a_default_of_all_sections_is_one_line(place: Place) -> None:
    place.at.folder("r1").mkdir(parents=True)
    (place.at.folder("r1") / "alembic.ini").write_text(
        "[DEFAULT]\nscript_location = one\n[alembic]\n#script_location=x\n"
    )
    assert found(place) == ["alembic"]


# ── what must be said ────────────────────────────────────────────────────────────────────────────────────────────────

SILENT = (
    "The release has Alembic, but its source has no alembic.ini and no [tool.alembic] that can be found: set "
    "migrate_config to the path of its configuration, or migrate to None if nothing is to be migrated."
)


def installed(place: Place, **packages: str) -> None:
    """Packages of the release r1: name → what they require."""
    for name, requires in packages.items():
        about = place.at.venv("r1") / f"lib/python3.13/site-packages/{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Name: {name}\n" + (f"Requires-Dist: {requires}\n" if requires else ""))


def test_alembic_without_a_configuration_is_not_passed_over(place: Place) -> None:
    place.migrating(file=None)
    migrations.required(place.app, "r1")
    installed(place, alembic="SQLAlchemy>=1.4", fastapi="alembic>=1; extra == 'all'")
    assert failure(migrations.required, place.app, "r1") == SILENT
    place.migrates(None)
    migrations.required(place.app, "r1")


def test_alembic_that_another_package_brings(place: Place) -> None:
    place.migrating(file=None)
    installed(place, alembic="SQLAlchemy>=1.4", advanced_alchemy="alembic>=1.12.0")
    migrations.required(place.app, "r1")


def test_alembic_with_its_configuration(place: Place) -> None:
    place.migrating()
    installed(place, alembic="SQLAlchemy>=1.4")
    migrations.required(place.app, "r1")


def by_command(name: str, command: str) -> str:
    return (
        f"The release has {name}, which Slipway runs only as a command: set migrate to one, such as "
        f'"{command}", or to None if nothing is to be migrated.'
    )


@pytest.mark.parametrize(
    ("packages", "file", "told"),
    [
        ({"aerich": "tortoise-orm"}, None, by_command("aerich", "aerich upgrade")),
        ({"yoyo_migrations": ""}, None, by_command("yoyo", "yoyo apply --batch")),
        ({"Masonite_ORM": ""}, None, by_command("Masonite ORM", "masonite-orm migrate")),
        ({"piccolo": ""}, "shop/piccolo_app.py", by_command("Piccolo", "piccolo migrations forwards all")),
        (
            {"Flask_Migrate": "alembic (>=1.9.0)", "alembic": ""},
            None,
            by_command("Flask-Migrate", "flask db upgrade"),
        ),
    ],
)
def test_a_tool_that_slipway_does_not_run_is_not_passed_over(
    place: Place, packages: dict[str, str], file: str | None, told: str
) -> None:
    place.migrating(file=None)
    installed(place, **packages)
    if file:
        migrations.required(place.app, "r1")
        path = place.at.folder("r1") / file
        path.parent.mkdir()
        path.touch()
    assert failure(migrations.required, place.app, "r1") == told
    place.app.wanted["hooks"]["before_migrate"] = ["own"]
    migrations.required(place.app, "r1")


@pytest.mark.parametrize(
    "packages", [{"beanie": "yoyo-migrations"}, {"aerich": "", "own": "aerich>=0.8"}, {"piccolo": ""}]
)
def test_what_comes_with_another_package_is_no_tool(place: Place, packages: dict[str, str]) -> None:
    place.migrating(file=None)
    installed(place, **packages)
    migrations.required(place.app, "r1")
