"""Every path and unit that Slipway has on a host is spelled once, in slipway_host/layout.py and names.py."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest
from slipway_host import layout, names
from slipway_host.layout import LAYOUT, AppLayout, Layout
from slipway_host.names import KINDS

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(layout.__file__)

EXEMPT: dict[str, set[str]] = {
    "files/program/slipway": {"/opt/slipway", "/opt/slipway/host", "/opt/slipway/host/current"},
    "files/app/gunicorn.conf.py": {"/dev/shm"},
    "files/updates/policy-rc.d": {"nginx.service"},
    "roles/system/role.py": {"/tmp"},
    "slipway/cli/verifying.py": {"result.json"},
    "slipway/person.py": {"/home"},
    "slipway/settings/inventory.py": {"_notes"},
    "slipway/settings/load.py": {"_notes"},
}
"""File → what it spells all the same.

On the host, a program can't import the layout before it has found it, and what is read by others' programs, which have
none, is written as it is. The rest means something else: a word to people, a file and fields of the operator's side.
"""
NOT_OURS = {Path("/"), names.PROC}
"""The kernel's, and what is in all paths."""
NAMES = {
    *(names.FIREWALL, names.REVERT, names.REVERT_AT_BOOT, names.SSHD_OUTSIDE, names.BUILDS, names.RENEWAL),
    *(names.SSHD, names.SSHD_SOCKET, names.JOURNAL, LAYOUT.nginx_unit, LAYOUT.swap_unit.name, names.INTERNAL),
    *(names.REQUEST, names.ABOUT, names.RESULT, names.BUILD, names.CERTIFICATE, names.KEY),
    *(names.AUTHORIZED_KEYS, names.BESIDE, names.WRITTEN, names.OWN, names.PATH),
    *(LAYOUT.pam_history.name, LAYOUT.pam_tries.name, *(LAYOUT.former(name).name for name in names.FORMER)),
}
"""Units, and files of folders whose own path is known at run time alone. What was called slipway-schema still is so in
what it says."""
PROGRAMS = {names.SSHD_PROGRAM, names.SHELL, names.NO_SHELL, names.PYTHON, names.SHARED_MEMORY}

APP, RELEASE = "notes", "20260102T030405-0a1b2c3"
NAME = r"(?:\{\{.*?\}\}|\{[^{}\n]+\}|<\w+>|\$\w+|\*|APP|notes|@RELEASE@)"
"""What stands for an app's name, or a release's id: an expression of Python's, of Jinja's, of a shell's, or a word."""
BEFORE, BEHIND = r"(?<![\w/.}])", r"(?![\w-]|\.\w)"
"""A path isn't the end of a longer one, nor the beginning of a longer name; nor is a unit's name that of a template."""


def known(of: Layout | AppLayout) -> Iterator[tuple[str, Path | str]]:
    """Name and value of all that a layout has."""
    for name, value in vars(of).items():
        values = value.values() if isinstance(value, dict) else value if isinstance(value, tuple | list) else (value,)
        yield from ((name, each) for each in values if isinstance(each, Path | str))


def pattern(spelled: str) -> str:
    """What finds it, with whatever stands for the app's name and the release's id."""
    return re.escape(spelled).replace(re.escape(RELEASE), NAME).replace(APP, NAME)


@cache
def patterns() -> Mapping[str, re.Pattern[str]]:
    """Spelled path or unit → what finds it."""
    at = LAYOUT.app(APP)
    plain = {str(value) for _, value in known(LAYOUT) if isinstance(value, Path) and value not in NOT_OURS}
    plain |= {*NAMES, *PROGRAMS}
    named = {str(value) for _, value in known(at) if isinstance(value, Path)}
    named |= {str(each(APP)) for each in (LAYOUT.site, LAYOUT.upstream, LAYOUT.renewal, LAYOUT.certificate)}
    named |= {str(LAYOUT.certbot_archive(APP)), str(LAYOUT.host_key(APP)), str(LAYOUT.uv_program(APP))}
    of_release = (at.folder, at.venv, at.programs, at.partial, at.env, at.socket, at.record, at.log, at.manifest)
    named |= {str(each(RELEASE)) for each in (*of_release, at.archive)}
    named |= {
        *(at.unit(RELEASE, kind) for kind in KINDS),
        *at.ends(RELEASE),
        *at.helpers,
        at.run_unit,
        at.run_unit.removesuffix(".service"),
    }
    named |= {at.slice, at.journal_unit, at.plan_unit, at.plan, at.builder}
    found = {each: re.escape(each) for each in plain} | {each: pattern(each) for each in named}
    behind = {each: "" if each.endswith(("-", ".")) else BEHIND for each in found}
    return {each: re.compile(BEFORE + text + behind[each]) for each, text in found.items()}


def blanked(text: str) -> str:
    """Python without its comments and docstrings, those of attributes included; each line stays where it is."""
    lines = text.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    marks = {tokenize.NL, tokenize.COMMENT}
    code = [token for token in tokens if token.type not in marks]
    gone = [token for token in tokens if token.type == tokenize.COMMENT]
    begins = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    for before, token, behind in zip([None, *code], code, [*code[1:], None], strict=False):
        alone = behind is not None and behind.type == tokenize.NEWLINE and (before is None or before.type in begins)
        if token.type == tokenize.STRING and alone:
            gone.append(token)
    for token in gone:
        (first, start), (last, end) = token.start, token.end
        for number in range(first, last + 1):
            line = lines[number - 1]
            left, right = start if number == first else 0, end if number == last else len(line.rstrip("\n"))
            lines[number - 1] = line[:left] + " " * (right - left) + line[right:]
    return "".join(lines)


def spelled(text: str, *, python: bool) -> Iterator[tuple[int, str]]:
    """Line number and what is spelled there, of a source that should have it from the layout."""
    text = re.sub(r"^[ \t]*(#|//).*", "", blanked(text) if python else text, flags=re.MULTILINE)
    for each, found in patterns().items():
        yield from ((text.count("\n", 0, match.start()) + 1, each) for match in found.finditer(text))


def sources() -> list[Path]:
    """All that Slipway is made of, but for the layout itself."""
    found = [ROOT / "deploy.py", *sorted((ROOT / "tasks").glob("*.py"))]
    for folder in ("roles", "slipway", "host", "templates", "files"):
        found += sorted(path for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc")
    return [path for path in found if path not in {HERE, Path(names.__file__)}]


def is_python(path: Path) -> bool:
    """Whether it is to be read as Python."""
    return path.suffix == ".py" or path.read_text(encoding="utf-8").startswith("#!/usr/bin/python3")


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_path_and_no_unit_is_spelled_outside_of_the_layout(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    found = list(spelled(path.read_text(encoding="utf-8"), python=is_python(path)))
    exempt = EXEMPT.get(name, set())
    assert [f"{name}:{number} spells {each}" for number, each in found if each not in exempt] == []
    assert exempt <= {each for _, each in found}, "what isn't spelled needs no exemption"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('FOLDER = "/opt/slipway/python"', "/opt/slipway/python"),
        ('f"{path} is in /etc/nginx/sites-enabled/mine"', "/etc/nginx/sites-enabled"),
        ('f"/etc/{app.name}/release.json"', "/etc/notes/release.json"),
        ('f"ReadWritePaths=-/var/lib/{self._name}"', "/var/lib/notes"),
        ('f"systemctl stop {app}-release"', "notes-release"),
        ('f"{self._name}@{release_id}.service"', f"notes@{RELEASE}.service"),
        ("f\"app-{name.replace('-', '_')}.slice\"", "app-notes.slice"),
        ('f"_{self._name}"', "_notes"),
        ('("systemctl", "reload", "ssh.service")', "ssh.service"),
        ('_ASK = """\ncat /srv/*/current/.venv/bin/python\n"""', "/srv/notes/current"),
        ("WorkingDirectory=/srv/{{ app.name }}/releases/@RELEASE@", f"/srv/notes/releases/{RELEASE}"),
        ('exec flock {{ lock }} "$RUNTIME_DIRECTORY" /run/slipway/install.lock', "/run/slipway/install.lock"),
    ],
)
def test_it_is_found_in(line: str, found: str) -> None:
    python = "{{" not in line
    assert found in {each for _, each in spelled(f"x = {line}\n" if python else line, python=python)}


@pytest.mark.parametrize(
    "text",
    [
        '"""What /etc/slipway has."""\nX = 1\n"""As /var/lib/slipway has it."""\n',
        "x = 1  # in /srv/notes\n",
        'def f() -> None:\n    """Of /run/slipway."""\n',
        'render("ssh/ssh.service.j2")\n',
        'f"file:///srv/mirror, {root}/etc/nginx, {unit}.service, net_{name}"\n',
    ],
)
def test_it_is_not_found_in(text: str) -> None:
    assert list(spelled(text, python=True)) == []


def test_all_of_it_lies_below_the_root(tmp_path: Path) -> None:
    """So that a test's host is a folder: but for what is the kernel's, or a unit's name."""
    made = Layout(tmp_path)
    of_host, of_app = dict(known(made)), dict(known(made.app(APP)))
    for name, value in (of_host | of_app).items():
        assert not isinstance(value, Path) or value.is_relative_to(tmp_path), name


def test_no_two_names_are_for_one_path() -> None:
    for of in (LAYOUT, LAYOUT.app(APP)):
        names: dict[str, set[str]] = {}
        for name, value in known(of):
            if isinstance(value, Path) and name != "temporary":  # of which one has a name of its own
                names.setdefault(str(value), set()).add(name)
        assert [each for each in names.values() if len(each) > 1] == []
