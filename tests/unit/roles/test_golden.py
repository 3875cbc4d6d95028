"""What reaches a host, byte for byte as it was looked at and kept in tests/unit/golden (tests/unit/goldens.py).

A test that fails here shows what would change on hosts. If that is meant, renew what is kept, read its diff, and commit
both together: ``pytest tests/unit/roles/test_golden.py --renew``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from roles import program
from slipway.engine.templates import ROOT, names
from tests.unit import goldens
from tests.unit.golden_cases import CASES
from tests.unit.goldens import GOLDEN, Maker

HOW = "If that is meant: pytest tests/unit/roles/test_golden.py --renew, then read `git diff tests/unit/golden`"


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    """Makes the texts of cases."""
    with pytest.MonkeyPatch.context() as patch:
        yield Maker(patch, tmp_path_factory.mktemp("golden"))


@pytest.fixture
def renew(request: pytest.FixtureRequest) -> bool:
    """Whether the texts are to be kept instead of compared; only where that is asked for."""
    return bool(request.config.getoption("--renew"))


def there(folder: Path) -> set[Path]:
    """Files in a folder."""
    return {path for path in folder.rglob("*") if path.is_file()}


def difference(path: Path, before: str | None, after: str | None) -> str:
    """Unified diff of a text; empty where it is the same."""
    if before == after:
        return ""
    shown = str(path.relative_to(ROOT))
    names = ("/dev/null" if before is None else shown, "what is made" if after is not None else "/dev/null")
    lines = difflib.unified_diff((before or "").splitlines(), (after or "").splitlines(), *names, lineterm="")
    return "\n".join(lines) or f"{shown}: line breaks at its end differ"


def compare(folder: Path, made: Mapping[Path, str], *, renew: bool) -> None:
    """Fail unless a folder holds just these texts; where that is asked for, let it hold them."""
    kept = {path: path.read_text(encoding="utf-8") for path in there(folder)}
    if renew:
        for path in kept.keys() - made.keys():
            path.unlink()
        for path, text in made.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        pytest.skip(f"renewed {folder.relative_to(ROOT)}: read `git diff` of it")
    found = [difference(path, kept.get(path), made.get(path)) for path in sorted(kept.keys() | made.keys())]
    if wrong := [each for each in found if each]:
        pytest.fail("\n\n".join([*wrong, HOW]), pytrace=False)


@pytest.mark.parametrize("case", CASES)
def test_what_reaches_a_host(maker: Maker, case: str, renew: bool) -> None:
    """Of a case with a base, what differs from that: the rest is the base's to be compared."""
    made = {goldens.place_of(case, path): text for path, text in goldens.own(maker, case).items()}
    compare(GOLDEN / case, made, renew=renew)


def test_what_a_shell_is_given(renew: bool) -> None:
    made = {goldens.place_of("", path): text for path, text in goldens.scripts().items()}
    compare(GOLDEN / "scripts", made, renew=renew)


def test_nothing_else_is_kept() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {*CASES, "scripts"}


def test_a_missing_text_is_a_difference() -> None:
    """Nothing is kept by itself: somebody has to ask for it, and to read the diff."""
    assert goldens.kept("minimal", "etc/no-such-file") is None
    assert difference(GOLDEN / "minimal/x", None, "a\n") == "--- /dev/null\n+++ what is made\n@@ -0,0 +1 @@\n+a"
    assert difference(GOLDEN / "minimal/x", "a", "a\n").endswith("line breaks at its end differ")


def test_every_template_is_among_them(maker: Maker) -> None:
    rendered = {call.template for call in maker.rendered()}
    assert {*names()} - rendered == {"access/sandbox.conf.j2"}, "which is a part of two others"


def test_every_file_is_among_them(maker: Maker) -> None:
    """Or it comes with the host's program, whose files are its own."""
    made = {*maker.texts("minimal").values(), *(text.decode() for text in program.texts().values())}
    files = {path: path.read_text(encoding="utf-8") for path in there(ROOT / "files") if path.suffix != ".pyc"}
    assert files and [path for path, text in files.items() if text not in made] == []


def test_the_texts_are_the_same_everywhere(maker: Maker) -> None:
    """Nothing random, nothing of this machine, and no key."""
    for case in CASES:
        for path, text in maker.texts(case).items():
            assert str(maker.folder) not in text and "PRIVATE KEY" not in text and "BEGIN CERT" not in text, path
            assert str(ROOT) not in text, path
