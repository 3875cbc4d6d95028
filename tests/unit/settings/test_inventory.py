"""Inventory files of all kinds: wherever they lie, whatever they are called, and whatever is wrong with them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from slipway import person
from slipway.settings import SettingsError, check_command_line, load_for, load_inventory
from slipway.settings.inventory import find_inventory, read_inventory

SOURCE = '{"git": "https://git.example.com/notes.git"}'
APP = f'{{"domains": ["notes.example.com"], "source": {SOURCE}, "app": "notes.main:app"}}'
HOSTS = f'hosts = [("203.0.113.5", {{"ssh_user": "root", "slipway": {{"apps": {{"notes": {APP}}}}}}})]\n'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, where one isn't; what is imported from it is forgotten."""
    (tmp_path / "elsewhere").mkdir()
    made = tmp_path / "inventories"
    made.mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", sys.modules | {})
    return made


def check(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: str) -> None:
    """Check a command line with this inventory."""
    monkeypatch.setattr(sys, "argv", ["pyinfra", str(path), "deploy.py", *arguments])
    check_command_line()


def refused(monkeypatch: pytest.MonkeyPatch, path: Path) -> str:
    """What is said of an inventory, in one line."""
    with pytest.raises(SettingsError) as error:
        check(monkeypatch, path)
    return " ".join(str(error.value).split())


@pytest.mark.parametrize("name", ["all.py", "hosts.py", "my.servers.py", "production", "deploy.py", "tasks.py"])
def test_any_name_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """pyinfra puts its hosts into a group of its stem, which it has already where that is "all"."""
    path = folder / name
    path.write_text(HOSTS)
    check(monkeypatch, path)
    groups = {name.rsplit(".", 1)[0], "hosts"} - {"all"}
    assert find_inventory([*sys.argv[1:]], groups) == path
    ((_, data, _),) = load_inventory(path)
    host: Any = SimpleNamespace(
        name="203.0.113.5",
        groups=list(groups),
        data=SimpleNamespace(dict=lambda: data | {"slipway": {"apps": {"notes": eval(APP)}}}),
    )
    assert load_for(host).apps["notes"].domains == ["notes.example.com"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import os\n\nKEY = os.environ['NOT_THERE']\n", "line 3 of {} expected: a file that runs to its end"),
        ("raise ValueError('a\\nb')\n", "found: ValueError: a\\x0ab"),
        ("open('/nonexistent/secrets.json')\n", "FileNotFoundError: [Errno 2] No such file or directory"),
        ("import sys\nsys.exit('not today')\n", "line 2 of {} expected: a file that runs to its end"),
        ("import nothing_of_this_name\n", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
        (
            "class Odd(BaseException):\n    pass\n\nraise Odd('stop')\n",
            "line 4 of {} expected: a file that runs to its end",
        ),
        ("hosts = {'203.0.113.5': {}}\n", "hosts in line 1 expected: a list of hosts found: a mapping of 1"),
        ("\ndef hosts():\n    return []\n", "hosts in line 2 expected: a list of hosts found: a function"),
        ("hosts = [['203.0.113.5', {}]]\n", "hosts in line 1 expected: a list of hosts found: a list of 1"),
        ("from os import sep as hosts\n", 'hosts in line 1 expected: a list of hosts found: "/"'),
        ("hosts = [(1, {})]\n", "expected: hosts as text, or as (host, data) found: (1, an empty mapping)"),
        ("hosts = [('203.0.113.5', None)]\n", 'or as (host, data) found: ("203.0.113.5", None)'),
        ("hosts = [\n", "found: '[' was never closed in line 1"),
        ("VERSIONS = (1, 2)\n" + HOSTS, "VERSIONS in line 1 expected: a list of hosts, or a tuple"),
        ("EMPTY = ()\n" + HOSTS, "name it _EMPTY, if it is no group"),
        ("hosts = [('a', {}, 3)]\n", "hosts in line 1 expected: hosts as text, or as (host, data) found: a tuple of 3"),
        (HOSTS + "DOMAINS = ['a.example.com']\n", "if DOMAINS is no list of hosts, name it _DOMAINS"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    path = folder / "production.py"
    path.write_text(text)
    assert told.format(path) in refused(monkeypatch, path)


def test_an_error_beside_the_inventory_is_told_where_it_is(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "shared_values.py").write_text("def data():\n    return 1 / 0\n")
    path = folder / "production.py"
    path.write_text("from shared_values import data\nhosts = [('a', data())]\n")
    assert f"line 2 of {folder}/shared_values.py" in refused(monkeypatch, path)


def test_what_an_inventory_does_on_the_way_stays_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints, which is no part of an answer in JSON, and goes elsewhere, where its own file can't be found."""
    monkeypatch.chdir(folder.parent)
    path = Path("inventories/production.py")
    path.write_text("import os\nprint('reading the vault')\nos.chdir('/')\n" + HOSTS)
    assert len(load_inventory(path)) == 1
    check(monkeypatch, path)
    assert capsys.readouterr() == ("", 2 * "reading the vault\n") and Path.cwd() == folder.parent


def test_what_lies_beside_the_inventory_can_be_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And can be once more, when pyinfra runs it."""
    (folder / "shared_values.py").write_text(f"APP = {APP}\n")
    path = folder / "production.py"
    path.write_text("from shared_values import APP\n" + HOSTS.replace(APP, "APP"))
    check(monkeypatch, path)
    assert str(folder) in sys.path and "shared_values" in sys.modules


@pytest.mark.parametrize("where", ["beside", "here", "given"])
@pytest.mark.parametrize("group", ["all", "web", "production"])
def test_data_of_groups_counts(folder: Path, monkeypatch: pytest.MonkeyPatch, where: str, group: str) -> None:
    """As pyinfra reads it: of its own folders, and of those that its command line names."""
    data = {"beside": folder / "group_data", "here": Path.cwd() / "group_data", "given": folder / "more"}[where]
    data.mkdir()
    (data / f"{group}.py").write_text(f"import os\nssh_user = 'deploy'\nslipway = {{'apps': {{'notes': {APP}}}}}\n")
    path = folder / "production.py"
    path.write_text("web = ['203.0.113.5', ('203.0.113.6', {'ssh_user': 'root'})]\n")
    check(monkeypatch, path, *(["--group-data", str(data)] if where == "given" else []))
    found = read_inventory(path, [str(data)]).hosts
    assert {name: each["ssh_user"] for name, each in found.items()} == {"203.0.113.5": "deploy", "203.0.113.6": "root"}
    assert "os" not in found["203.0.113.5"]


# ── who runs it ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user whom the system doesn't know, without HOME: as in a container that runs as any number."""

    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr("pwd.getpwnam", unknown)
    for name in ("HOME", "XDG_CACHE_HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nobody")
def test_who_has_no_home_is_told_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "production.py"
    path.write_text(HOSTS)
    with pytest.raises(person.HomeError, match=r"there is no HOME, .* Set it, as in: HOME=/home/me slipway"):
        check(monkeypatch, path)
    assert person.cache() is None and person.login() is None and person.name().startswith("user ")


@pytest.mark.usefixtures("nobody")
def test_a_home_alone_will_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    path = folder / "production.py"
    path.write_text(HOSTS)
    check(monkeypatch, path)


@pytest.mark.usefixtures("nobody")
def test_a_path_in_a_home_that_nobody_knows_is_one_line() -> None:
    with pytest.raises(person.HomeError, match="your home folder isn't known"):
        person.expanded("~/.ssh/id_ed25519")
    with pytest.raises(person.HomeError, match="this machine has no such user"):
        person.expanded("~nobody-of-this-name/key")
    assert person.expanded("key") == Path("key")


def test_who_is_nobody_is_told_what_openssh_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    assert person.advice_on_ssh() == ""
    monkeypatch.setenv("USER", "ann")
    monkeypatch.setattr("os.getuid", lambda: 54_321)
    assert person.advice_on_ssh() == (
        "; the system must know the user who runs OpenSSH: add that user, or run this as another one"
    )
