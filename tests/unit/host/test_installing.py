"""Real uv installs small packages from a folder: nothing of it asks an index."""

from __future__ import annotations

import functools
import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator, Sequence
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import build, builder, environment
from slipway_host.system import Done

from tests.unit.host.fakes import FakeSystem
from tests.unit.host.prepared import IDS, Place, RealCommands, failure, place_at

UV = Path(sys.executable).with_name("uv")


class Host(RealCommands):
    """Commands run as they are, but for those that only root can run."""

    def run(self, *argv: str, **options: Any) -> Done:
        if argv[0] in ("take over", "systemd-run") or "chown" in argv:
            return FakeSystem.run(self, *argv, **options)
        return super().run(*argv, **options)


def wheel(folder: Path, name: str, version: str, *needs: str, program: bool = False) -> str:
    """Make a wheel; returns its hash as a requirement has it."""
    about = f"{name}-{version}.dist-info"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(f"{name}/__init__.py", f'VERSION = "{version}"\n')
        needed = "".join(f"Requires-Dist: {each}\n" for each in needs)
        made.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needed}")
        made.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        if program:
            made.writestr(f"{about}/entry_points.txt", f"[console_scripts]\n{name} = {name}:main\n")
        made.writestr(f"{about}/RECORD", "")
    return f"--hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        wheel(folder, "serving", version, "shared>=1", program=True)
        wheel(folder, "shared", version)
    wheel(folder, "web", "1.0", "shared")
    return folder


@pytest.fixture
def place(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    place = place_at(tmp_path / "host", monkeypatch, Host)
    place.layout.uv.parent.mkdir(parents=True)
    place.layout.uv.symlink_to(UV)
    place.layout.lib.parent.mkdir(parents=True)
    place.layout.lib.symlink_to(Path(build.__file__).parents[2])
    place.app.wanted |= {
        "python": sys.executable,
        "programs": ["python", "serving"],
        "uv_env": {
            "UV_PYTHON_INSTALL_DIR": str(Path(sys.base_prefix)),
            "UV_FIND_LINKS": str(wheels),
            "UV_OFFLINE": "1",
            "UV_PYTHON_DOWNLOADS": "never",
        },
        "dependencies": {"server": ["serving>=1"]},
    }

    def run(app: Any, release: str, argv: Sequence[str], given: dict[str, str], **options: Any) -> Done:
        variables = {"PATH": os.defpath, "HOME": str(place.at.builder_home), **given}
        done = subprocess.run(
            argv,
            env=variables,
            cwd=app.work(release),
            input=options.get("said", ""),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        place.system.calls.append(" ".join(argv))
        return Done(tuple(argv), done.returncode, done.stdout)

    monkeypatch.setattr(builder, "run", run)
    monkeypatch.setattr(environment, "compile_library", lambda app, python: None)
    monkeypatch.setattr(place.app.progress, "heard", None, raising=False)
    place.at.uv_cache.mkdir(parents=True)
    return place


def built(place: Place, release: str, **files: str) -> str | None:
    """Build a release of these files; it then serves. Returns what the build says."""
    folder = place.at.folder(release)
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    place.app.write_record(release, kind="release", state="started")
    note = build.build(place.app, release)
    place.app.write_record(release, state="good")
    return note


def says(place: Place, release: str, statement: str) -> str:
    program = place.at.programs(release) / "python"
    done = subprocess.run([program, "-c", statement], cwd="/", capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr


VERSIONS = "import serving, shared, web; print(serving.VERSION, shared.VERSION, web.VERSION)"


def hashes(wheels: Path, *names: str) -> str:
    """Lines of requirements for these wheels."""
    lines = []
    for name in names:
        path = wheels / f"{name.replace('==', '-')}-py3-none-any.whl"
        lines.append(f"{name} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n")
    return "".join(lines)


def test_the_server_comes_in_versions_that_fit_the_pins(place: Place, wheels: Path) -> None:
    assert built(place, IDS[0], requirements_txt=hashes(wheels, "web==1.0", "shared==1.0")) is None
    assert says(place, IDS[0], VERSIONS) == "2.0 1.0 1.0", "the app's own pin stays"
    chosen = (place.at.venv(IDS[0]) / "server.txt").read_text()
    assert chosen.startswith("serving==2.0 ") and "--hash=sha256:" in chosen and "shared" not in chosen


def test_more_packages_come_in_versions_that_fit_the_pins(place: Place, wheels: Path) -> None:
    place.app.wanted["dependencies"]["more"] = ["web<2"]
    built(place, IDS[0], requirements_txt=hashes(wheels, "shared==1.0"))
    assert says(place, IDS[0], VERSIONS) == "2.0 1.0 1.0"
    assert "web==1.0 " in (place.at.venv(IDS[0]) / "server.txt").read_text()


def test_a_server_that_the_lock_file_has_is_let_be(place: Place, wheels: Path) -> None:
    built(place, IDS[0], requirements_txt=hashes(wheels, "web==1.0", "shared==1.0", "serving==1.0"))
    assert says(place, IDS[0], VERSIONS) == "1.0 1.0 1.0"
    assert not (place.at.venv(IDS[0]) / "server.txt").exists()


def test_pins_that_no_server_fits_end_the_build(place: Place, wheels: Path) -> None:
    place.app.wanted["dependencies"]["server"] = ["serving>=2"]
    pins = hashes(wheels, "web==1.0", "shared==1.0", "serving==1.0")
    told = failure(lambda: built(place, IDS[0], requirements_txt=pins))
    assert told.startswith("The packages of the app's server (serving>=2) don't fit what the lock file pins, ")
    assert "serving==1.0" in told
    assert told.endswith("\nLet the lock file have newer versions of these packages.")
    place.app.wanted["server"] = {"instead": {"one": ["serving>=2"], "two": ["shared"], "three": []}}
    told = failure(lambda: built(place, IDS[1], requirements_txt=pins))
    assert 'Set server to "two", which fits; or let' in told


def test_a_project_without_a_lock_file_is_pinned_once(place: Place, wheels: Path) -> None:
    project = '[project]\nname = "notes"\nversion = "1"\ndependencies = ["web"]\n'
    project += '[project.optional-dependencies]\npg = ["shared<2"]\n'
    told = failure(lambda: built(place, IDS[0], pyproject_toml=project))
    assert "or set dependencies.hashes to False, and the first build pins what the project names." in told
    place.app.wanted["dependencies"] |= {"hashes": False, "extras": ["pg"]}
    built(place, IDS[1], pyproject_toml=project)
    wheel(wheels, "web", "2.0", "shared")
    place.app.wanted["uv_env"]["UV_HTTP_TIMEOUT"] = "31"
    built(place, IDS[2], pyproject_toml=project)
    assert says(place, IDS[2], VERSIONS).endswith("1.0 1.0"), "the second build installs what the first one pinned"


def test_what_is_pinned_was_there_before_a_day(place: Place, wheels: Path) -> None:
    place.app.wanted["dependencies"] |= {"hashes": False, "before": "2022-12-31"}
    built(place, IDS[0], requirements_txt="web\n")
    pinned = [call for call in place.system.calls if " --exclude-newer 2022-12-31 " in call]
    assert len(pinned) == 1 and " pip compile " in pinned[0], "what the server needs is as new as it can be"


def test_requirements_without_hashes_are_pinned_once(place: Place, wheels: Path) -> None:
    asked = "web\nshared<2\n"
    told = failure(lambda: built(place, IDS[0], requirements_txt=asked))
    assert told.startswith("requirements.txt has no hash of web, shared: ")
    place.app.wanted["dependencies"]["hashes"] = False
    built(place, IDS[1], requirements_txt=asked)
    wheel(wheels, "web", "2.0", "shared")
    place.app.wanted["uv_env"]["UV_HTTP_TIMEOUT"] = "31"  # another environment of the same requirements
    built(place, IDS[2], requirements_txt=asked)
    assert says(place, IDS[2], VERSIONS) == "2.0 1.0 1.0"
    place.app.request["fresh"] = True
    built(place, IDS[3], requirements_txt=asked)
    assert says(place, IDS[3], VERSIONS) == "2.0 1.0 2.0", "built anew, it is pinned anew"


PROJECT = """\
[project]
name = "notes"
version = "1"
requires-python = ">=3.11"
dependencies = [{needs}]
[build-system]
requires = ["uv_build>=0.5"]
build-backend = "uv_build"
{more}
"""


def test_a_project_that_is_installed_shares_its_dependencies(place: Place, wheels: Path) -> None:
    """And never the code of the release before."""
    project = PROJECT.format(needs='"web"', more="[project.scripts]\nnotes = 'notes:main'\n")
    (wheels.parent / "p/src/notes").mkdir(parents=True)
    (wheels.parent / "p/src/notes/__init__.py").touch()
    (wheels.parent / "p/pyproject.toml").write_text(project)
    given = {**os.environ, **place.app.wanted["uv_env"]}
    locking = [str(UV), "lock", "--python", sys.executable, "--project", str(wheels.parent / "p")]
    subprocess.run(locking, env=given, check=True, capture_output=True)
    lock = (wheels.parent / "p/uv.lock").read_text()
    for release in IDS[:2]:
        (place.at.folder(release) / "src/notes").mkdir(parents=True)
        (place.at.folder(release) / "src/notes/__init__.py").write_text(
            f"NAME = '{release}'\ndef main(): print(NAME)\n"
        )
    # What `uv init` writes: a Python that isn't here.
    files = {"pyproject_toml": project, "uv_lock": lock, "_python-version": "3.99\n"}
    assert built(place, IDS[0], **files) is None
    place.system.calls.clear()
    assert built(place, IDS[1], **files) == f"the environment of {IDS[0]}"
    assert [each for each in place.system.calls if "bin/uv " in each and "--only-install-local" not in each] == []
    for release in IDS[:2]:
        assert says(place, release, "import notes; print(notes.NAME)") == release
        program = place.at.programs(release) / "notes"
        assert subprocess.run([program], capture_output=True, text=True, check=True).stdout.strip() == release
        assert says(place, release, VERSIONS) == "2.0 2.0 1.0"
    shared = [next(place.at.venv(each).glob("lib/python3*/site-packages/web/__init__.py")) for each in IDS[:2]]
    assert shared[0].stat().st_ino == shared[1].stat().st_ino, "a hard link takes no room"
    own = place.app.record(IDS[1])["own"]
    assert own is not None and "bin/notes" in own


def test_what_a_command_installs_is_of_its_release_alone(place: Place, wheels: Path) -> None:
    pins = hashes(wheels, "web==1.0", "shared==1.0")
    place.app.wanted["build"]["commands"] = [["sh", "-c", "cd .venv/lib/python3*/site-packages; touch model.py"]]
    built(place, IDS[0], requirements_txt=pins)
    assert "model.py" in says(place, IDS[0], "import model; print(model.__file__)")
    assert place.app.record(IDS[0])["own"] is None
    place.app.wanted["build"]["commands"] = [["true"]]
    assert built(place, IDS[1], requirements_txt=pins) is None
    assert "No module named 'model'" in says(place, IDS[1], "import model")
    assert built(place, IDS[2], requirements_txt=pins) == f"the environment of {IDS[1]}"


def test_an_environment_in_the_source_does_not_count(place: Place, wheels: Path) -> None:
    pins = hashes(wheels, "web==1.0", "shared==1.0")
    for release in IDS[:2]:
        (place.at.folder(release) / ".venv/bin").mkdir(parents=True)
        (place.at.folder(release) / ".venv/bin/left").touch()
        built(place, release, requirements_txt=pins)
        assert says(place, release, VERSIONS) == "2.0 1.0 1.0"
        assert not (place.at.programs(release) / "left").exists()


def test_pins_are_of_one_python_and_of_the_indexes_that_the_file_names(place: Place, wheels: Path) -> None:
    """An index beside the usual one, as for PyTorch's builds without a GPU."""
    place.app.wanted["dependencies"]["hashes"] = False
    other = wheels.parent / "other"
    other.mkdir()
    wheel(other, "torch", "1.0")
    asked = f"--find-links {other}\nweb\nshared<2\ntorch\n"
    built(place, IDS[0], requirements_txt=asked)
    assert says(place, IDS[0], "import torch; print(torch.VERSION)") == "1.0"
    wheel(other, "torch", "2.0")
    place.app.wanted["uv_env"]["UV_HTTP_TIMEOUT"] = "31"
    built(place, IDS[1], requirements_txt=asked)
    assert says(place, IDS[1], "import torch; print(torch.VERSION)") == "1.0"
    place.app.wanted["python"] = f"{sys.executable}3"  # as if it were another version
    built(place, IDS[2], requirements_txt=asked)
    assert says(place, IDS[2], "import torch; print(torch.VERSION)") == "2.0"


PYLOCK = """\
lock-version = "1.0"
created-by = "uv"
requires-python = ">=3.11"

[[packages]]
name = "notes"
directory = { path = ".", editable = true }
"""


def test_a_pylock_that_has_the_project_itself(place: Place) -> None:
    """As `uv export --format pylock.toml` writes it."""
    for release in IDS[:2]:
        (place.at.folder(release) / "src/notes").mkdir(parents=True)
        (place.at.folder(release) / "src/notes/__init__.py").write_text(f"NAME = '{release}'\n")
        assert built(place, release, pyproject_toml=PROJECT.format(needs="", more=""), pylock_toml=PYLOCK) is None
        assert says(place, release, "import notes, serving; print(notes.NAME, serving.VERSION)") == f"{release} 2.0"


def kit(place: Place, release: str, *needs: str, folder: str = "libs/kit", name: str = "kit") -> None:
    """A package of the source itself."""
    at = place.at.folder(release) / folder
    (at / "src" / name).mkdir(parents=True)
    (at / "src" / name / "__init__.py").touch()
    listed = ", ".join(f'"{each}"' for each in needs)
    project = PROJECT.replace('"notes"', f'"{name}"').format(needs=listed, more="")
    (at / "pyproject.toml").write_text(project)


def test_what_a_folder_of_the_source_needs_is_pinned_with_the_rest(place: Place, wheels: Path) -> None:
    """As pip installs it; without a line for it in the file."""
    place.app.wanted["dependencies"]["hashes"] = False
    for release, need in zip(IDS[:3], ("web", "web", "shared==1.0"), strict=True):
        kit(place, release, need)
        kit(place, release, "nowhere", folder="libs/none", name="none")
        built(place, release, requirements_txt="-e ./libs/kit\n./libs/none ; python_version < '3'\n")
    assert says(place, IDS[0], "import kit, web, shared; print(web.VERSION, shared.VERSION)") == "1.0 2.0"
    assert place.app.record(IDS[0])["environment"] == place.app.record(IDS[1])["environment"]
    assert says(place, IDS[2], "import kit, shared; print(shared.VERSION)") == "1.0", "it needs another one now"


def test_hashes_without_what_a_folder_of_the_source_needs(place: Place, wheels: Path) -> None:
    kit(place, IDS[0], "web", folder=".", name="notes")
    told = failure(lambda: built(place, IDS[0], requirements_txt=hashes(wheels, "shared==1.0") + "-e .[more]\n"))
    assert told.startswith(
        "requirements.txt lacks what a folder that it names needs: notes needs web, but it's not installed. Pin that"
    )
    kit(place, IDS[1], "web", folder=".", name="notes")
    pins = hashes(wheels, "shared==1.0", "web==1.0")
    built(place, IDS[1], requirements_txt=pins + "-e .[more]\n")
    assert says(place, IDS[1], "import notes, web; print(web.VERSION)") == "1.0"


@pytest.mark.parametrize("pinned", [True, False])
def test_a_server_comes_from_where_the_file_says(
    place: Place, wheels: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool
) -> None:
    """The file alone names that place: here a folder beside it, and no index."""
    del place.app.wanted["uv_env"]["UV_FIND_LINKS"]
    place.app.wanted["dependencies"] |= {"hashes": pinned, "lock": "deploy/all.txt"}
    folder = place.at.folder(IDS[0])
    folder.mkdir(parents=True)
    wheels.rename(folder / "wheels")
    lines = hashes(folder / "wheels", "web==1.0", "shared==1.0") if pinned else "web\nshared<2\n"
    built(
        place,
        IDS[0],
        deploy__all_txt=f"--no-index\n-r more/base.txt\n{lines}",
        deploy__more__base_txt="-f ../../wheels\n",
    )
    assert says(place, IDS[0], VERSIONS) == "2.0 1.0 1.0"


def test_constraints_and_nested_files_and_markers(place: Place, wheels: Path) -> None:
    place.app.wanted["dependencies"]["hashes"] = False
    asked = "-r requirements/base.txt\n-c limits.txt\nweb\nnowhere ; python_version < '3'\n"
    files = {"requirements__base_txt": "shared\n", "limits_txt": "shared==1.0\nserving==1.0\n"}
    built(place, IDS[0], requirements_txt=asked, **files)
    assert says(place, IDS[0], VERSIONS) == "1.0 1.0 1.0", "the server's version is within them, too"


def test_what_the_build_of_the_project_needs_is_made_first(place: Place, wheels: Path) -> None:
    """With the dependencies there; in a release that shares them, too."""
    make = "import pathlib, web; p = pathlib.Path('src/notes/__init__.py'); p.write_text('NAME = ' + repr(web.VERSION))"
    place.app.wanted["build"] |= {"commands": [], "first": [["python", "-c", make]]}
    for release in IDS[:2]:
        (place.at.folder(release) / "src/notes").mkdir(parents=True)
        files = {"requirements_txt": hashes(wheels, "web==1.0", "shared==1.0")}
        note = built(place, release, pyproject_toml=PROJECT.format(needs="", more=""), **files)
        assert says(place, release, "import notes; print(notes.NAME)") == "1.0"
    assert note == f"the environment of {IDS[0]}"


class Index(ThreadingHTTPServer):
    """An index of packages (packaging.python.org/specifications/simple-repository-api)."""

    def __init__(self, wheels: Path) -> None:
        """`wheels`: folder with what it has."""
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(wheels.parent)))
        for path in wheels.glob("*.whl"):
            page = wheels.parent / "simple" / path.name.split("-")[0] / "index.html"
            page.parent.mkdir(parents=True, exist_ok=True)
            with page.open("a") as file:
                file.write(f'<a href="/{wheels.name}/{path.name}">{path.name}</a>\n')
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}/simple"


class _Handler(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        self.send_header("Cache-Control", "max-age=0")  # else uv itself asks no more for a while
        super().end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def index(place: Place, wheels: Path) -> Iterator[Index]:
    """An index that no variable names."""
    for name in ("UV_FIND_LINKS", "UV_OFFLINE"):
        del place.app.wanted["uv_env"][name]
    place.app.wanted["uv_env"] |= {"UV_HTTP_RETRIES": "0", "NO_PROXY": "127.0.0.1", "UV_INSECURE_HOST": "127.0.0.1"}
    with Index(wheels) as made:
        yield made
        made.shutdown()


def test_the_index_of_a_lock_file_has_the_server(place: Place, wheels: Path, index: Index) -> None:
    """What a build keeps is enough for one with other settings once the index is gone; `offline` alone says so."""
    lines = hashes(wheels, "web==1.0", "shared==1.0")
    built(place, IDS[0], requirements_txt=f"--index-url {index.url}\n{lines}")
    assert says(place, IDS[0], VERSIONS) == "2.0 1.0 1.0"
    packages = ""
    for name in ("web", "shared"):
        wheel = f"{name}-1.0-py3-none-any.whl"
        digest = hashlib.sha256((wheels / wheel).read_bytes()).hexdigest()
        url = f"{index.url.removesuffix('/simple')}/wheels/{wheel}"
        packages += f'\n[[packages]]\nname = "{name}"\nversion = "1.0"\nindex = "{index.url}"\n'
        packages += f'wheels = [{{ url = "{url}", hashes = {{ sha256 = "{digest}" }} }}]\n'
    head = 'lock-version = "1.0"\ncreated-by = "x"\n'
    built(place, IDS[1], pylock_toml=head + packages)
    assert says(place, IDS[1], VERSIONS) == "2.0 1.0 1.0"
    index.shutdown()
    index.server_close()
    place.app.wanted["uv_env"]["UV_HTTP_TIMEOUT"] = "31"
    asked = f"--index-url {index.url}\n{lines}"
    assert "can't be installed" in failure(lambda: built(place, IDS[2], requirements_txt=asked))
    place.app.wanted["dependencies"]["offline"] = True
    built(place, IDS[3], requirements_txt=asked)
    assert says(place, IDS[3], VERSIONS) == "2.0 1.0 1.0"
