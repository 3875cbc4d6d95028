"""Commands of a build: in a unit that is empty before root looks, and that leaves room on the disk."""

from __future__ import annotations

import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest
from slipway_host.release import builder, guest, room
from slipway_host.system import Done

from tests.unit.host.prepared import Place, failure, place_at


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    made = place_at(tmp_path, monkeypatch)
    made.at.folder("r1").mkdir()
    return made


def run(place: Place, *argv: str, **options: Any) -> Done:
    """Run a command of the build of r1."""
    return builder.run(place.app, "r1", argv or ("make", "all"), {}, **options)


@pytest.mark.parametrize("network", [True, False])
def test_the_unit_of_a_command(place: Place, network: bool) -> None:
    run(place, network=network)
    (call,) = place.system.calls
    begins = "systemd-run --quiet --wait --pipe --collect --unit notes-build "
    begins += "--property User=_notes --property Group=_notes --property ProtectSystem=strict "
    assert call.startswith(begins) and call.endswith(" -- make all")
    folder, root = place.at.folder("r1"), place.layout.root
    for line in (
        f"TemporaryFileSystem={root}/srv {root}/run",
        f"BindPaths={folder}",
        f"ReadWritePaths={folder} {place.at.cache}",
        f"BindReadOnlyPaths=-{root}/etc/resolv.conf",
        f"EnvironmentFile={place.app.request['folder']}/build.env",
        f"WorkingDirectory={folder}",
        "RuntimeMaxSec=3600",
    ):
        assert f"--property {line} " in call, line
    assert (f"--property ExecStartPre=+nft -f {root}/etc/slipway/builds.nft " in call) is network
    assert ("--property PrivateNetwork=yes " in call) is not network
    assert "--setenv" not in call, "everybody may read that"


def test_it_runs_in_the_apps_folder(place: Place) -> None:
    place.app.wanted["source"]["subdir"] = "apps/notes"
    run(place)
    assert f"--property WorkingDirectory={place.at.folder('r1')}/apps/notes " in place.system.calls[0]


def test_what_it_is_given(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file that root alone reads, and that is gone afterwards."""
    file = Path(place.app.request["folder"]) / "build.env"
    given: dict[str, Any] = {}
    plain = place.system.run

    def noted(*argv: str, **options: Any) -> Done:
        given.update(options, text=file.read_text(), mode=stat.S_IMODE(file.stat().st_mode))
        return plain(*argv, **options)

    monkeypatch.setattr(place.system, "run", noted)
    monkeypatch.setenv("SSH_AUTH_SOCK", "/operators")
    builder.run(place.app, "r1", ["make"], {"PASSWORD": 's3"c$r\\3t`'}, secrets=['s3"c$r\\3t`'])
    assert given["text"].splitlines() == [
        f'HOME="{place.at.cache}/home"',
        'LC_ALL="C.UTF-8"',
        r'PASSWORD="s3\"c\$r\\3t\`"',
        'PATH="/usr/local/bin:/usr/bin:/bin"',
    ]
    assert given["mode"] == 0o600 and not file.exists(), "nobody reads it afterwards"
    assert given["heard"] == place.app.progress.heard and list(given["secrets"]) == ['s3"c$r\\3t`']


def test_its_file_goes_when_it_fails(place: Place) -> None:
    place.system.doing["make"] = lambda line: json.loads("no JSON")
    with pytest.raises(ValueError, match="Expecting"):
        run(place)
    assert list(Path(place.app.request["folder"]).iterdir()) == []


def test_a_build_that_is_not_over_is_not_looked_at(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guest, "processes", lambda user: [17, 4711])
    assert failure(run, place) == "Processes of the build are left (17, 4711): see `ps -u _notes`."


def test_a_build_that_leaves_no_room_is_ended(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what it left in its caches is removed."""
    left: list[tuple[int, int | None]] = [(10 << 30, None)]
    monkeypatch.setattr(room, "EVERY", 0.01)
    monkeypatch.setattr(room, "free", lambda path: left[-1])
    (place.at.builder_home / "big").mkdir(parents=True)

    def fill(line: str) -> None:
        left.append((100 << 20, None))
        time.sleep(0.2)

    place.system.doing["make"] = fill
    assert failure(run, place).startswith("The build was ended: 100 MB were left on the disk of /")
    assert place.system.matching("systemctl kill") == ["systemctl kill --signal=SIGKILL notes-build.service"]
    assert list(place.at.builder_home.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "seconds", "told"),
    [(1, 3600, "`make` was ended after 3600 s. Building forever"), (1, 3599, None), (0, 3600, None)],
)
def test_a_build_that_takes_too_long_is_ended(
    place: Place, monkeypatch: pytest.MonkeyPatch, code: int, seconds: int, told: str | None
) -> None:
    def ran(*_: Any, **__: Any) -> Done:
        place.system.sleep(seconds)
        return Done(("make",), code, "Building forever")

    monkeypatch.setattr(place.app.systemd, "run", ran)
    if told:
        assert failure(run, place) == told
    else:
        assert run(place).code == code


@pytest.mark.parametrize(
    ("code", "output", "told"),
    [
        (1, "Failed to start transient service unit: Access denied", True),
        (226, "", True),
        (1, "*** Error compiling 'template.py'...\nFailed to start transient service unit", False),
        (199, "", False),
    ],
)
def test_a_command_that_was_not_run_is_told(place: Place, code: int, output: str, told: bool) -> None:
    place.system.failing["make"], place.system.codes["make"] = output, code
    done = run(place)
    if told:
        message = failure(builder.must_run, place.app, done)
        assert message == f"`make` couldn't be run in notes-build.service:\n{output}"
    else:
        builder.must_run(place.app, done)


def test_the_key_to_dependencies_is_seen_for_one_command(place: Place) -> None:
    place.at.dependencies_key.write_text("KEY")
    place.at.dependencies_hosts.write_text("git.example.com ssh-ed25519 AAAA")
    run(place)
    assert "slipway-build" not in place.system.calls[-1], "it wasn't asked for"
    place.app.wanted["dependencies"] = {"key": True}
    seen: dict[str, str] = {}
    folder = Path(place.app.request["folder"])

    def look(line: str) -> None:
        seen.update({name: (folder / name).read_text() for name in ("key", "known_hosts", "build.env")})

    place.system.doing["make all"] = look
    run(place)
    shown = f"{place.layout.root}/run/slipway-build"
    assert f"BindReadOnlyPaths={folder}/key:{shown}/key" in place.system.calls[-1]
    assert f"BindReadOnlyPaths={folder}/known_hosts:{shown}/known_hosts" in place.system.calls[-1]
    assert seen["key"] == "KEY" and seen["known_hosts"] == "git.example.com ssh-ed25519 AAAA"
    assert place.system.owners["key"] == ("_notes", "_notes")
    assert (
        'GIT_SSH_COMMAND="ssh -F none -o BatchMode=yes -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes '
        f'-o UserKnownHostsFile={shown}/known_hosts -i {shown}/key"'
    ) in seen["build.env"]
    assert not (folder / "key").exists() and not (folder / "known_hosts").exists()
    place.system.doing.clear()
    run(place, network=False)
    assert "slipway-build" not in place.system.calls[-1], "without a network it is good for nothing"
