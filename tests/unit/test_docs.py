"""The manual: in step with the program, its links lead somewhere, and what it says to type can be typed."""

from __future__ import annotations

import importlib.util
import re
import shlex
import typing
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
from pydantic import BaseModel

from docs import reference
from slipway import project
from slipway.cli.main import parser
from slipway.prober.settings import _VERIFY
from slipway.settings import Settings, load_inventory
from slipway.settings.source import FolderSource
from tests.host._hosts import Verify
from tests.unit.inventories import new_key, ssh_key, write_private, write_project

ROOT = project.root()
OTHERS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/target/README.md"]
PAGES = [*(ROOT / page for page in OTHERS), *sorted((ROOT / "docs").glob("*.md"))]
PAGES += sorted(ROOT.glob("examples/*/README.md"))
REFERENCE = reference.TARGET.read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    """A page, as tests name it."""
    return str(path.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


# ── the reference ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_reference_is_in_step() -> None:
    assert reference.render() == REFERENCE, "run `make docs`, and read the diff"


@pytest.mark.parametrize(
    "line",
    [
        "### `slipway plan INVENTORY [-- OPTION…]`",
        "| `--dry` | only show what would be released; change nothing |",
        "### `slipway status APP`",
        "### `slipway log APP [RELEASE]`",
        "| `nginx reload` | validate, reload and prove what is on disk |",
        "### `slipway.apps.NAME.limits`",
        "### `slipway.apps.NAME.source with git`",
        '### `slipway.apps.NAME.rate_limits."PATH"`',
        "- `tasks`: a whole number of processes and threads from 32 to 1000000; default `1024`.",
        "- `app`: an application as module:attribute, or None; default `None`.",
        "#### nginx and TLS",
    ],
)
def test_the_reference_says_what_there_is(line: str) -> None:
    assert line in REFERENCE.splitlines()


def test_it_has_every_setting_once() -> None:
    """Each in the section of its model: a name may be another section's as well."""
    sections = dict(re.findall(r"(?ms)^### `(slipway(?:\.[^`]*)?)`\n(.*?)(?=^### |\Z)", REFERENCE))
    sections.pop("slipway nginx", None)
    assert len(sections) == 24
    names = [name for text in sections.values() for name in re.findall(r"(?m)^- `([a-z_0-9]+)`: ", text)]
    assert len(names) == sum(len(own_fields(model)) for model in models(Settings))


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A model, and all within it."""
    yield model
    for field in model.model_fields.values():
        for each in dict.fromkeys(reference.models_in(field.annotation)):
            yield from models(each)


def own_fields(model: type[BaseModel]) -> list[str]:
    """Settings of a model that are no section of their own."""
    return [name for name, field in model.model_fields.items() if not isinstance(field.default, BaseModel)]


def test_models_are_found_at_any_depth() -> None:
    kinds = typing.Annotated[dict[str, FolderSource | None], "x"]
    assert reference.models_in(kinds) == [FolderSource]


def test_nothing_of_markdown_is_made_of_a_text() -> None:
    assert reference._prose("a <app> of *b*, _c_ and d_e: `f <g>` and ``h``") == (
        r"a \<app\> of \*b\*, \_c\_ and d_e: `f <g>` and `h`"
    )
    assert reference._prose(f"{'x' * 117} - y").splitlines()[1] == r"\- y"
    assert reference._prose("10. of May").splitlines() == [r"\10. of May"]


def test_what_it_says_of_verify_is_what_is_read() -> None:
    [row] = [line for line in REFERENCE.splitlines() if line.startswith("| `verify` |")]
    keys = ["address", "http_port", "https_port", "ca_file"]
    assert re.findall(r"`([a-z_]+)`", row) == ["verify", *keys]
    assert sorted(field.name for field in fields(Verify)) == sorted(keys) == sorted(_VERIFY)


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def anchors(text: str) -> set[str]:
    """What links may name of a page, as GitHub makes it of headings."""
    headings = re.findall(r"(?m)^#+ (.+)$", re.sub(r"(?ms)^\s*```.*?^\s*```$", "", text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    wrong = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if link.startswith("https://"):
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            wrong.append(link)
    assert wrong == []


@every_page
def test_named_files_are_there(page: Path) -> None:
    """Paths of this repository, as `slipway/…`."""
    text = page.read_text(encoding="utf-8")
    folders = "slipway|host|roles|templates|files|tests|tasks|inventories|docs|examples"
    named = re.findall(rf"`((?:{folders})/[\w./-]+)`", text)
    wrong = [path for path in named if not (ROOT / path).exists() and not re.search(r"NAME|production\.", path)]
    assert wrong == []


UNTYPED = ["CHANGELOG.md", "docs/reference.md"]
"""Pages with commands of before, and with patterns of commands."""


def typed(page: Path) -> Iterator[str]:
    """What a page says to type: lines of its blocks for a shell, and words in a line that begin as a command does."""
    text = page.read_text(encoding="utf-8")
    for block in re.findall(r"(?ms)^\s*```sh\n(.*?)^\s*```$", text):
        yield from (line.partition(" #")[0].strip() for line in block.splitlines())
    prose = re.sub(r"(?ms)^\s*```.*?^\s*```$", "", text)
    yield from (code for code in re.findall(r"`([^`\n]+)`", prose) if " " in code)


def refusal(command: str) -> str:
    """Why a command can't be typed; empty where it can, or where it is none of ours."""
    words = shlex.split(command.replace("<app>", "NAME"), comments=True)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    if not words or any("…" in word or word.startswith(("[", "(")) for word in words):
        return ""
    program, *rest = words
    program = program.removeprefix(".venv/bin/")
    try:
        if program == "slipway" and len(rest) == 1:  # a verb that is named, or --version
            known = {*reference.subcommands(parser()), *reference.subcommands(reference.host_parser()), "--version"}
            return "" if rest[0] in known else f"no verb {rest[0]}"
        if program == "slipway":
            parser().parse_args(rest)
        elif program == "/opt/slipway/bin/slipway" and rest[:1] != ["--help"] and rest != ["COMMAND"]:
            reference.host_parser().parse_args(rest)
        elif program in ("python", "pyinfra", "pytest"):
            return refusal_of_python(program, rest)
        elif program == "make":
            targets = re.findall(r"(?m)^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"))
            return "".join(f"no target {word}" for word in rest if "=" not in word and word not in targets)
    except SystemExit:
        return "refused by its parser"
    return ""


def refusal_of_python(program: str, words: list[str]) -> str:
    """Why one of Python's programs can't be run: a module, or a file of ours that isn't there."""
    if program == "python":
        return "" if words[0] == "-m" and importlib.util.find_spec(words[1]) else f"no module {words[1:]}"
    paths = [word for word in words if word.endswith(".py") or "/" in word]
    return "".join(f"no {path}" for path in paths if not (ROOT / path).exists())


@pytest.mark.parametrize("page", [page for page in PAGES if name_of(page) not in UNTYPED], ids=name_of)
def test_what_it_says_to_type_can_be_typed(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {command: why for command in typed(page) if (why := refusal(command))}
    assert wrong == {}, capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        "slipway deploy INVENTORY",
        "slipway deploy",
        "slipway rollback INVENTORY --schema no",
        "/opt/slipway/bin/slipway history NAME",
        "make everything",
        "python -m tests.nothing",
        ".venv/bin/pyinfra -y INVENTORY tasks/nothing.py",
    ],
)
def test_what_cannot_be_typed_is_found(command: str) -> None:
    assert refusal(command)


def test_commands_are_found_on_the_pages() -> None:
    found = {name_of(page): [*typed(page)] for page in PAGES}
    assert "slipway apply conf/production.py" in found["README.md"]
    assert "slipway rollback INVENTORY --to 20261130" in found["docs/how-to.md"]
    assert "/opt/slipway/bin/slipway status NAME" in found["docs/how-to.md"]


SECTIONS = "ssh|firewall|operator|acme|updates|system|limits|sandbox|hooks|probe|headers|tls|static"


@every_page
def test_named_settings_exist(page: Path) -> None:
    """As `limits.tmp_mb`: those of a section that no file is named after."""
    known = {
        f"{section.rpartition('.')[2]}.{name}"
        for section, text in re.findall(r"(?ms)^### `(slipway\.[^`]*)`\n(.*?)(?=^### |\Z)", REFERENCE)
        for name in re.findall(r"(?m)^- `([a-z_0-9]+)`: ", text)
    }
    named = re.findall(rf"`((?:{SECTIONS})\.[a-z_]+)`", page.read_text(encoding="utf-8"))
    wrong = [name for name in named if name not in known and not name.endswith((".py", ".md", ".conf", ".d"))]
    assert wrong == []


# ── the tutorial ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", ["README.md", "docs/start.md"])
def test_its_inventory_is_a_good_one(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands there, in a folder of the app."""
    text = (ROOT / page).read_text(encoding="utf-8")
    [block] = [each for each in re.findall(r"(?ms)^ *```python\n(.*?)^ *```$", text) if "hosts = [" in each]
    lead = len(block) - len(block.lstrip())
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    write_private(tmp_path / ".ssh/id_ed25519", ssh_key(new_key()))
    write_project(tmp_path / "hello")
    (tmp_path / "hello/conf").mkdir()
    write_private(tmp_path / "hello/conf/production.env", "SECRET_KEY=s3cret\n")
    path = tmp_path / "hello/conf/production.py"
    path.write_text("".join(line[lead:] or "\n" for line in block.splitlines(keepends=True)), encoding="utf-8")
    ((name, connection, settings),) = load_inventory(path)
    assert (name, connection["ssh_user"]) == ("203.0.113.5", "root")
    assert len(settings.apps) == 1
