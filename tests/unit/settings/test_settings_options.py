"""The options of one run: what `--data` takes, and what is refused before pyinfra connects."""

# ruff: noqa: E501  (a table: one mistake a line)

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyinfra.api.arguments import all_argument_meta
from pyinfra.connectors.ssh import connector_data_meta

from slipway.settings import RunOptions, SettingsError, check_command_line, load_for, options_for
from slipway.settings.manual import documentation
from slipway.settings.options import OPTIONS, TAKES, command_line_problems, given_in
from tests.unit.inventories import MINIMAL, write_project

HOST = "203.0.113.5"
SHOP = {**MINIMAL["apps"]["notes"], "domains": ["shop.example.com"]}
TWO_APPS = {"apps": {**MINIMAL["apps"], "shop": SHOP}}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a project and an inventory of one host with two apps, as the current one."""
    write_project(tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    write_hosts(tmp_path, {HOST: {"ssh_user": "root", "slipway": TWO_APPS}})
    return tmp_path


def write_hosts(folder: Path, hosts: dict[str, dict[str, Any]]) -> None:
    """An inventory file of some hosts."""
    (folder / "production.py").write_text(f"hosts = {list(hosts.items())!r}\n", encoding="utf-8")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    """Make a command line the current one."""
    monkeypatch.setattr(sys, "argv", ["pyinfra", "-y", "production.py", "deploy.py", *arguments])


def read_by_pyinfra(text: str) -> Any:
    """What pyinfra makes of a text: `parse_cli_arg` of pyinfra_cli.util, whose import would patch this process."""
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for read in (int, json.loads):
        try:
            return read(text)
        except ValueError:
            pass
    return text


def data_of(texts: dict[str, str]) -> dict[str, Any]:
    """A host's data, as pyinfra makes it of the texts of a command line."""
    return {"slipway": TWO_APPS, "ssh_user": "root"} | {name: read_by_pyinfra(text) for name, text in texts.items()}


def host_with(data: dict[str, Any], name: str = HOST) -> Any:
    """pyinfra's current host, with its data."""
    return SimpleNamespace(name=name, groups=["hosts", "production"], data=SimpleNamespace(dict=lambda: data))


def who_takes(names: Iterable[str]) -> str:
    """What pyinfra may run with these options."""
    return next((entry for entry, taken in TAKES.items() if set(names) <= set(taken)), "deploy.py")


def run(monkeypatch: pytest.MonkeyPatch, **texts: str) -> RunOptions:
    """The options of a run with these `--data`, checked as a run checks them."""
    call(monkeypatch, *(word for name, text in texts.items() for word in ("--data", f"{name}={text}")))
    check_command_line()
    return options_for(host_with(data_of(texts)), who_takes(texts))


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """What is said about a command line."""
    call(monkeypatch, *arguments)
    with pytest.raises(SettingsError) as error:
        check_command_line()
    return str(error.value)


# --- What is taken ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("folder")
def test_nothing_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every app, no traffic, and consent to nothing."""
    options = run(monkeypatch)
    assert options == RunOptions(prove=False, app=None, contract=False, again=False, to=None, schema=None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.prove = True  # type: ignore[misc]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("name", ["prove", "contract", "again"])
@pytest.mark.parametrize("text", ["true", "True", "TRUE", "yes", "Yes", "1", "false", "FALSE", "no", "No", "0"])
def test_switches(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words and numbers in any case, whatever pyinfra made of them."""
    expected = text.lower() in ("true", "yes", "1")
    assert getattr(run(monkeypatch, **{name: text}), name) is expected
    monkeypatch.setattr(sys, "argv", ["pytest"])  # read from the host's data alone
    assert getattr(options_for(host_with(data_of({name: text})), "deploy.py"), name) is expected


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    "to",
    ["20261121T034900Z-abcdef0", "20261121T034900Z", "2026", "abcdef0", "0123456", "12e4567", "1e999", "true", "null"],
)
def test_release_to_go_back_to(to: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that looks like a number, or worse, stays what was written."""
    assert run(monkeypatch, to=to).to == to


@pytest.mark.usefixtures("folder")
def test_other_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app of the host, and what happens to its database."""
    options = run(monkeypatch, app="shop", schema="code-only", to="abc")
    assert (options.app, options.schema, options.to) == ("shop", "code-only", "abc")
    assert run(monkeypatch, schema="downgrade").schema == "downgrade"


@pytest.mark.usefixtures("folder")
def test_options_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """`app` is a setting too, inside of slipway: given for a run, it isn't taken for that."""
    call(monkeypatch, "--data", "app=notes", "--data", "prove=true")
    assert set(load_for(host_with(data_of({"app": "notes", "prove": "true"}))).apps) == {"notes", "shop"}


def test_given_in() -> None:
    """Both ways to write it; what another program gets isn't pyinfra's."""
    words = ["--data", "a=1", "--dry", "--data=b=x=y", "--data", "c", "--", "--data", "d=1"]
    assert [(one.name, one.text) for one in given_in(words)] == [("a", "1"), ("b", "x=y"), ("c", None)]
    assert given_in(["--data"]) == []


def test_names_of_pyinfra_pass() -> None:
    """None of its own names is near ours, and neither are those of an inventory's hosts."""
    names = [*all_argument_meta, *connector_data_meta, "verify", "slipway", "docker_identifier", "colour"]
    arguments = [word for name in names for word in ("--data", f"{name}=x")]
    assert not any(command_line_problems(arguments, {}, {}).values())
    arguments = ["--data", "contact=x"]
    assert any(command_line_problems(arguments, {"a": {"b": 1}}, {}).values())
    assert not any(command_line_problems(arguments, {"a": {"b": 1}, "c": {"contact": 1}}, {}).values())


def test_every_option_is_documented() -> None:
    """What each means stands with it."""
    told = documentation(RunOptions)
    for name in OPTIONS:
        assert told[name], name


# --- What is refused -------------------------------------------------------------------------------------------------

SWITCH = "true or false (yes, no, 1 and 0 will do)"
RELEASE = "a release's id, its beginning, or the beginning of its commit: letters, digits and hyphens"
RELEASE_DO = "write it as the host lists it, such as 20261121T034900Z-abcdef0 or abcdef0"
SCHEMA = 'one of "code-only", "downgrade"'
SCHEMA_DO = "write --data schema=code-only to leave the database as it is, or --data schema=downgrade to take its migrations back"
OURS = "an option of a run"
LEFT_OUT = "write --data prove=true, or leave it out"

# fmt: off
WRONG: list[tuple[str, list[str], str, str, str, str]] = [
    ("switch with another word", ["prove=maybe"], "--data prove=maybe", SWITCH, '"maybe"', LEFT_OUT),
    ("switch without a value", ["prove="], "--data prove=", SWITCH, '""', LEFT_OUT),
    ("switch with a space", ["prove=true "], "--data prove=true ", SWITCH, '"true "', LEFT_OUT),
    ("switch with a number", ["prove=2"], "--data prove=2", SWITCH, '"2"', LEFT_OUT),
    ("switch with a zero too many", ["prove=01"], "--data prove=01", SWITCH, '"01"', LEFT_OUT),
    ("switch with nothing in JSON", ["prove=null"], "--data prove=null", SWITCH, '"null"', LEFT_OUT),
    ("switch with a quote", ['prove="true"'], "--data prove", SWITCH, r'"\"true\""', LEFT_OUT),
    ("switch with a list", ["prove=[true]"], "--data prove=[true]", SWITCH, '"[true]"', LEFT_OUT),
    ("consent in other words", ["contract=ok"], "--data contract=ok", SWITCH, '"ok"', "write --data contract=true, or leave it out"),
    ("again in other words", ["again=once"], "--data again=once", SWITCH, '"once"', "write --data again=true, or leave it out"),
    ("switch without =", ["prove"], "--data prove", "an option as NAME=VALUE", "no =", "write --data prove=true"),
    ("option without =", ["to"], "--data to", "an option as NAME=VALUE", "no =", "write the name, =, and the value"),
    ("another's option without =", ["colour"], "--data colour", "an option as NAME=VALUE", "no =", "write the name, =, and the value"),
    ("nothing at all", [""], "--data ", "an option as NAME=VALUE", "no =", "write the name, =, and the value"),
    ("option twice", ["prove=true", "prove=false"], "--data prove", "each option once", '"prove" twice', "keep one of them"),
    ("release with a path", ["to=../../etc"], "--data to=../../etc", RELEASE, '"../../etc"', RELEASE_DO),
    ("release that is an option", ["to=-rf"], "--data to=-rf", RELEASE, '"-rf"', RELEASE_DO),
    ("release with a command", ["to=a;id"], "--data to=a;id", RELEASE, '"a;id"', RELEASE_DO),
    ("release with a line break", ["to=a\nb"], "--data to", RELEASE, r'"a\nb"', RELEASE_DO),
    ("release without a name", ["to="], "--data to=", RELEASE, '""', RELEASE_DO),
    ("release in other letters", ["to=rück"], "--data to=rück", RELEASE, '"rück"', RELEASE_DO),
    ("release that is far too long", ["to=" + "a" * 200], "--data to", RELEASE, '"' + "a" * 119 + '…" (200 characters)', RELEASE_DO),
    ("schema with a typo", ["schema=codeonly"], "--data schema=codeonly", SCHEMA, '"codeonly"', SCHEMA_DO),
    ("schema in capitals", ["schema=Downgrade"], "--data schema=Downgrade", SCHEMA, '"Downgrade"', SCHEMA_DO),
    ("schema as a switch", ["schema=true"], "--data schema=true", SCHEMA, '"true"', SCHEMA_DO),
    ("typo", ["porve=true"], "--data porve", OURS, '"porve", which is unknown', "write --data prove=…"),
    ("name of a setting", ["probe=true"], "--data probe", OURS, '"probe", which is a setting', "set slipway.apps.<app>.probe in the inventory"),
    ("setting of the host", ["timezone=UTC"], "--data timezone", OURS, '"timezone", which is a setting', "set slipway.timezone in the inventory"),
    ("apps for app", ["apps=notes"], "--data apps", OURS, '"apps", which is a setting', "set slipway.apps in the inventory"),
    ("option in capitals", ["PROVE=true"], "--data PROVE", OURS, '"PROVE", which is unknown', "write --data prove=…"),
    ("option with hyphens", ["--contract=true"], "--data --contract", OURS, '"--contract", which is unknown', "write --data contract=…"),
    ("space around =", ["prove = true"], "--data prove ", OURS, '"prove ", which is unknown', "write --data prove=…"),
    ("typo without =", ["agian"], "--data agian", OURS, '"agian", which is unknown', "write --data again=…"),
    ("value of what is unknown", ["schemas=hidden"], "--data schemas", OURS, '"schemas", which is unknown', "write --data schema=…"),
    ("pasted key", ["to=-----BEGIN OPENSSH PRIVATE KEY-----"], "--data to", RELEASE, "key material (not shown)", RELEASE_DO),
]
# fmt: on


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("row", WRONG, ids=[row[0] for row in WRONG])
def test_refused_with_this_message(
    row: tuple[str, list[str], str, str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole message, before pyinfra connects; in it no value of what is unknown."""
    _, given_texts, path, expected, found, do = row
    message = refused(monkeypatch, *(word for text in given_texts for word in ("--data", text)))
    assert message == (
        "command line: all hosts: 1 setting is wrong; the host was not touched\n\n"
        f"{path}\n  expected: {expected}\n  found:    {found}\n  do:       {do}"
    )
    assert "hidden" not in message and "BEGIN" not in message


# fmt: off
APPS = [
    ("note", '"note"', "write --data app=notes"),
    ("NOTES2", '"NOTES2"', "write one of them, or leave it out for all"),
    ("", '""', "write one of them, or leave it out for all"),
    ("true", '"true"', "write one of them, or leave it out for all"),
    ("null", '"null"', "write one of them, or leave it out for all"),
    ("12", '"12"', "write one of them, or leave it out for all"),
    ("../x", '"../x"', "write one of them, or leave it out for all"),
]
# fmt: on


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("app", "found", "do"), APPS, ids=[row[0] for row in APPS])
def test_unknown_app(app: str, found: str, do: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before connecting, and again for each host of the run."""
    message = (
        f"command line: {HOST}: 1 setting is wrong; the host was not touched\n\n"
        f"--data app={app}\n  expected: an app of this host: notes, shop\n  found:    {found}\n  do:       {do}"
    )
    assert refused(monkeypatch, "--data", f"app={app}") == message
    with pytest.raises(SettingsError) as error:
        options_for(host_with(data_of({"app": app})), "deploy.py")
    assert str(error.value) == message


def test_app_of_another_host(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run is for the hosts that have the app: all, or those that --limit names."""
    shop = {"slipway": {"apps": {"shop": SHOP}}}
    write_hosts(folder, {"web1": {"slipway": MINIMAL}, "web2": shop})
    message = refused(monkeypatch, "--data", "app=notes")
    assert message == (
        "command line: web2: 1 setting is wrong; the host was not touched\n\n"
        '--data app=notes\n  expected: an app of this host: shop\n  found:    "notes"\n'
        "  do:       name the hosts that have it: slipway … -- --limit HOST"
    )
    for limit in (["--limit", "web1"], ["--limit=web1"], ["--exclude", "web2"]):
        call(monkeypatch, "--data", "app=notes", *limit)
        check_command_line()
    assert "write --data app=notes" in refused(monkeypatch, "--data", "app=note", "--limit", "web1")
    call(monkeypatch, "--data", "app=notes", "--limit", "web2")
    check_command_line()
    with pytest.raises(SettingsError, match="an app of this host: shop"):
        options_for(host_with(shop | {"app": "notes"}, "web2"), "deploy.py")


def test_all_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the inventory and with the command line, in one message."""
    write_hosts(folder, {HOST: {"slipway": TWO_APPS | {"timezon": "UTC"}}})
    message = refused(monkeypatch, "--data", "prove=maybe", "--data", "app=note", "--data=agian=1")
    assert [
        line for line in message.splitlines() if line.startswith(("production.py", "command", "slipway", "--"))
    ] == [
        f"production.py: {HOST}: 1 setting is wrong; the host was not touched",
        "slipway.timezon",
        "command line: all hosts: 2 settings are wrong; the host was not touched",
        "--data agian",
        "--data prove=maybe",
        f"command line: {HOST}: 1 setting is wrong; the host was not touched",
        "--data app=note",
    ]
    (folder / "production.py").write_text("hosts = [\n", encoding="utf-8")
    message = refused(monkeypatch, "--data", "prove=maybe")
    assert "production.py: all hosts: 1 setting" in message and "--data prove=maybe" in message


@pytest.mark.parametrize("value", [{"a": "hidden"}, ["hidden"], object(), 1.5, "maybe"])
@pytest.mark.parametrize("name", OPTIONS)
def test_data_of_any_kind(name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a host's data holds, there is a message and no traceback."""
    monkeypatch.setattr(sys, "argv", ["pytest"])
    if name == "to" and value == "maybe":
        return
    with pytest.raises(SettingsError) as error:
        options_for(host_with({"slipway": MINIMAL, name: value}), who_takes({name: ""}))
    assert f"--data {name}" in str(error.value) and "hidden" not in str(error.value)


def test_tasks_are_no_inventories(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What pyinfra runs on an inventory isn't read as one, wherever it stands."""
    monkeypatch.setattr("slipway.settings.inventory._ROOT", folder)
    (folder / "tasks").mkdir()
    for name in ("deploy.py", "tasks/rollback.py"):
        (folder / name).write_text("raise AssertionError\n", encoding="utf-8")
        monkeypatch.setattr(sys, "argv", ["pyinfra", "@docker/debian", name])
        check_command_line()


@given(st.lists(st.text(max_size=12) | st.sampled_from(["prove=", "app=", "to=", "schema=", "--data", "=", "apps"])))
def test_no_command_line_ends_in_a_traceback(texts: list[str]) -> None:
    """Problems, or none."""
    arguments = [word for text in texts for word in ("--data", text)]
    command_line_problems(arguments, {"h": {"slipway": MINIMAL}}, {"apps": "slipway.apps"})


@pytest.mark.usefixtures("folder")
def test_an_option_of_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip that would release, where going back was meant."""
    call(monkeypatch, "--data", "to=d4746fe")
    with pytest.raises(SettingsError) as error:
        options_for(host_with(data_of({"to": "d4746fe"})), "tasks/release.py")
    told = " ".join(str(error.value).split())
    assert (
        "--data to=d4746fe" in told and "expected: an option of tasks/release.py: app, prove, contract, again" in told
    )
    assert "found: one of tasks/rollback.py" in told and "leave it out, or run tasks/rollback.py" in told
