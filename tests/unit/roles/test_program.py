"""The host's own program, brought to folders of this machine as it is brought to a host."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import slipway_host

from roles import program
from slipway.engine.operations import shell_line


class Place:
    """A host's folder of versions, and what is started by name."""

    def __init__(self, root: Path) -> None:
        self.versions, self.started = root / "host", root / "bin/slipway"
        self.started.parent.mkdir()

    def ran(self, script: str, *more: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run one of the two scripts, of this machine's user and Python."""
        script = script.replace("/usr/bin/python3", sys.executable).replace("0:0", f"{os.getuid()}:{os.getgid()}")
        script = script.replace("-user 0", f"-user {os.getuid()}").replace("-group 0", f"-group {os.getgid()}")
        starter = hashlib.sha256(program.texts()[program.STARTER]).hexdigest()
        words = (str(self.versions), "v1", program.digest(), str(self.started), starter, *more)
        line = shell_line(script, *words)
        return subprocess.run(["sh", "-c", line], input=stdin, capture_output=True, text=True, check=False)

    def current(self, *former: Path) -> bool:
        """Whether it is the wanted version, unchanged, and takes the place of these programs."""
        done = self.ran(program._CURRENT, *map(str, former))
        assert (done.returncode, done.stderr) == (0, "")
        return bool(done.stdout.strip())

    def install(self, stdin: str = "") -> str:
        """Bring it there; returns what went wrong, or nothing."""
        done = self.ran(program._INSTALL, stdin=stdin or program.archive())
        return done.stderr if done.returncode else ""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_it_comes_whole_and_compiled(place: Place) -> None:
    assert not place.current()
    assert place.install() == ""
    assert place.current()
    assert (place.versions / "current").readlink() == Path("v1")
    package = place.versions / "current/slipway_host"
    assert (package / "release/build.py").read_bytes() == (program.PACKAGE / "release/build.py").read_bytes()
    (compiled,) = (package / "__pycache__").glob("layout.*.pyc")
    assert str(place.versions / "v1/slipway_host/layout.py").encode() in compiled.read_bytes()
    code = f"import sys; sys.path.insert(0, {str(place.versions / 'current')!r})\n"
    code += "import slipway_host.cli\nprint(slipway_host.cli.__file__)"
    done = subprocess.run([sys.executable, "-IS", "-c", code], capture_output=True, text=True, check=True)
    assert Path(done.stdout.strip()).is_relative_to(place.versions)


def test_what_runs_goes_on_with_the_version_before(place: Place) -> None:
    for name in ("v0", "v-1"):
        (place.versions / name).mkdir(parents=True)
    (place.versions / "current").symlink_to("v0")
    (place.versions / ".v9.partial").mkdir()
    assert place.install() == ""
    assert sorted(each.name for each in place.versions.iterdir()) == ["current", "v0", "v1"]


@pytest.mark.parametrize(
    "drift",
    [
        "echo '# by hand' >>host/v1/slipway_host/text.py",
        "rm host/v1/slipway_host/text.py",
        "touch host/v1/slipway_host/os.py",
        "chmod 666 host/v1/slipway_host/text.py",
        "chmod 777 host/v1/slipway_host",
        "mv host/v1/slipway_host/text.py away; ln -s $PWD/away host/v1/slipway_host/text.py",
        "echo '# by hand' >>bin/slipway",
        "chmod 4755 bin/slipway",
        "rm bin/slipway",
        "mv bin/slipway away; ln -s $PWD/away bin/slipway",
        "rm host/current",
        "ln -sfn v2 host/current",
        "rm -r host",
    ],
)
def test_what_was_changed_by_hand_is_put_right(place: Place, tmp_path: Path, drift: str) -> None:
    assert place.install() == "" and place.current()
    subprocess.run(["sh", "-c", drift], cwd=tmp_path, check=True)
    assert not place.current()
    assert place.install() == "" and place.current()


def test_a_program_of_0_1_is_there(place: Place, tmp_path: Path) -> None:
    """Or was put back by a Slipway of that version: what it was is to be put in order again."""
    assert place.install() == ""
    link, folder, former = (tmp_path / f"bin/slipway-{name}" for name in ("release", "nginx", "access"))
    link.symlink_to("slipway")
    folder.mkdir()
    assert place.current(link, folder)
    assert not place.current(link, folder, former), "nothing is there yet"
    former.touch()
    assert not place.current(link, folder, former)


def test_what_comes_broken_changes_nothing(place: Place) -> None:
    assert place.install() == ""
    (place.versions / "current").unlink()
    (place.versions / "current").symlink_to("before")
    part = {path: data for path, data in program.texts().items() if not path.endswith("text.py")}
    assert "did not arrive whole" in place.install(stdin=packed(part))
    assert str((place.versions / "current").readlink()) == "before"


def packed(files: dict[str, bytes]) -> str:
    """An archive of these."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for path, data in files.items():
            about = tarfile.TarInfo(path)
            about.size = len(data)
            tar.addfile(about, io.BytesIO(data))
    return base64.b64encode(gzip.compress(made.getvalue())).decode()


def test_the_version_stands_in_one_place() -> None:
    root = program.PACKAGE.parents[1]
    assert f'VERSION = "{slipway_host.VERSION}"' in (program.PACKAGE / "__init__.py").read_text()
    text = (root / "pyproject.toml").read_text()
    assert slipway_host.VERSION not in text
