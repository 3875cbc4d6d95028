"""roles/app.py: a user who can't log in, folders closed to others, an environment that stays secret."""

from __future__ import annotations

import pytest

from tests.host._hosts import EXPOSURE, OUTSIDER, App

SHORTEST_SECRET = 8
"""Characters below which a value is found by chance in any text."""


def others(app: App) -> list[str]:
    """Unprivileged users who have no business with the app: every other app's, and nginx's."""
    return [OUTSIDER, *(each.settings.user for each in app.target.apps.values() if each is not app)]


def test_user_cannot_log_in(app: App) -> None:
    """No shell."""
    shell = app.target.run("getent passwd %s", app.settings.user).split(":")[6]
    assert shell in ("/usr/sbin/nologin", "/sbin/nologin", "/bin/false", "/usr/bin/false")


def test_user_has_no_password(app: App) -> None:
    """The field of /etc/shadow that no password can match."""
    locked = app.target.run("getent shadow %s", app.settings.user).split(":")[1]
    assert set(locked) <= set("!*") and locked, "the user has a password"


def test_user_is_a_system_user_of_its_own(app: App) -> None:
    """Its home is the folder it may write to; it is in no other group."""
    account = app.target.run("getent passwd %s", app.settings.user).split(":")
    assert account[5] == app.settings.home
    assert 0 < int(account[2]) < 1000
    assert app.target.run("id -Gn %s", app.settings.user).split() == [app.settings.group]


def test_folders(app: App) -> None:
    """Owner and mode of everything that is the app's own."""
    own = app.settings
    expected = {
        own.config_dir: ("directory", "750", "root", own.group),
        own.root: ("directory", "755", "root", "root"),
        own.releases_dir: ("directory", "755", "root", "root"),
        own.home: ("directory", "750", own.user, own.group),
    }
    assert {path: tuple(entry) for path, entry in app.target.stat(*expected).items()} == expected


def environment_files(app: App) -> list[str]:
    """The environment that is wanted, and those that releases have."""
    given = f"-path {app.settings.at.secret_files} -prune"
    found = app.target.run(
        f"find {app.settings.config_dir} {given} -o \\( -name env -o -name '*.env' \\) -type f -print"
    )
    assert app.settings.env_path in found.splitlines(), f"{app.settings.env_path} is missing"
    return found.splitlines()


def test_environment_files_are_root_s_and_the_app_s(app: App) -> None:
    """0640 root:<app>; what only the build or the release program reads, root's alone."""
    files = environment_files(app)
    expected = ("regular file", "640", "root", app.settings.group)
    private = ("regular file", "600", "root", "root")
    kept = [app.settings.release_config_path, f"{app.settings.config_dir}/build.env"]
    wanted = {path: private if path in kept else expected for path in [*files, *kept]}
    assert {path: tuple(entry) for path, entry in app.target.stat(*wanted).items()} == wanted


def test_environment_is_unreadable_for_others(app: App) -> None:
    """For nginx's user, and for every other app's."""
    files = environment_files(app)
    assert {user: app.target.allowed(user, "r", files) for user in others(app)} == {user: set() for user in others(app)}


def test_app_can_read_its_environment_but_not_change_it(app: App) -> None:
    """As its own user, outside the sandbox even."""
    assert app.target.allowed(app.settings.user, "r", [app.settings.env_path]) == {app.settings.env_path}
    assert app.target.allowed(app.settings.user, "w", [app.settings.config_dir, *environment_files(app)]) == set()


def test_app_can_write_to_its_home(app: App) -> None:
    """The one place that it may write to."""
    assert app.target.allowed(app.settings.user, "w", [app.settings.home]) == {app.settings.home}


def test_home_is_closed_to_others(app: App) -> None:
    """A database file lies there."""
    assert {user: app.target.allowed(user, "x", [app.settings.home]) for user in others(app)} == {
        user: set() for user in others(app)
    }


def test_app_cannot_write_its_own_code(app: App) -> None:
    """Nothing below the app's folder, its environment with all packages included, but for what `shared` names."""
    script = f"find {app.settings.root} -path {app.settings.at.shared} -prune -o -not -type l -writable -print"
    found = app.target.host.run(
        f"setpriv --reuid={app.settings.user} --regid={app.settings.group} --init-groups {script}"
    )
    assert found.stdout.splitlines()[:10] == []


def test_shared_folders_are_the_app_s(app: App) -> None:
    """Each is linked into the release that serves, and closed to other apps; what it lies in is root's."""
    top, named = app.settings.at.shared, [*app.settings.shared, *app.settings.writable_files]
    if not named:
        pytest.skip("shared and shared_files name nothing that the app writes")
    folders = {f"{top}/{each}": ("directory", app.settings.user, app.settings.group) for each in named}
    found = app.target.stat(str(top), *folders)
    assert tuple(found.pop(str(top))) == ("directory", "755", "root", "root")
    assert {path: (each[0], *each[2:]) for path, each in found.items()} == folders
    for each in named:
        inner = f"/{each.rpartition('/')[2]}" if each in app.settings.writable_files else ""
        assert app.target.run(f"readlink {app.work}/{each}") == f"{top}/{each}{inner}"
    outsider = app.target.allowed("nobody", "w", list(folders))
    assert outsider == set()


def test_secret_files_are_read_by_the_app_alone(app: App) -> None:
    """Each release has a copy."""
    given = [f"{app.work}/{path}" for path in app.settings.given_files]
    if not given:
        pytest.skip("shared_files names no file of yours")
    expected = ("regular file", "640", "root", app.settings.group)
    assert {path: tuple(entry) for path, entry in app.target.stat(*given).items()} == dict.fromkeys(given, expected)


def test_settings_reach_the_app(app: App) -> None:
    """The running process has each variable with its value."""
    wanted = app.settings.environment
    wrong = sorted(name for name in wanted if app.environment.get(name) != wanted[name])
    assert not wrong, f"missing, or with another value, in the running app: {', '.join(wrong)}"


def test_platform_variables_reach_the_app(app: App) -> None:
    """What every app gets without asking."""
    wanted = {
        "WEB_CONCURRENCY": str(app.workers),
        "RELEASE_ID": app.release,
        "STATE_DIRECTORY": app.settings.home,
        "HOME": app.settings.home,
    }
    if app.settings.port is not None:
        wanted["PORT"] = str(app.settings.port)
    assert {name: app.environment.get(name) for name in wanted} == wanted


def test_processes_are_closed_to_others(app: App) -> None:
    """Their environment, memory and open files: for nginx's user, and for every other app's."""
    paths = [f"/proc/{each.pid}/{name}" for each in app.processes for name in ("environ", "mem", "maps", "fd/0")]
    assert app.target.allowed("root", "r", paths), "nothing to look at"
    for user in others(app):
        read = app.target.host.run(
            f"setpriv --reuid={user} --regid={user} --init-groups --inh-caps=-all --no-new-privs cat {paths[0]}"
        )
        assert (read.rc, read.stdout) == (1, ""), user
        assert app.target.allowed(user, "r", paths[:1]) == set()


def test_app_sees_no_other_process(app: App) -> None:
    """From inside its sandbox: not systemd, no other app, and nothing of the kernel's where that is hidden."""
    enter = "nsenter --target %s --user --mount -- setpriv --reuid=%s --regid=%s --keep-groups "
    own = (app.pid, app.settings.user, app.settings.group)
    seen = app.target.run(enter + "find /proc -maxdepth 1", *own).split()
    assert f"/proc/{app.pid}" in seen
    for other in app.target.apps.values():
        if other is not app:
            assert f"/proc/{other.pid}" not in seen, other.name
    assert "/proc/1" not in seen
    assert ("/proc/meminfo" in seen) is not app.settings.sandbox.hide_system


def test_exposure(app: App) -> None:
    """As low as the settings allow."""
    sandbox = app.settings.sandbox
    if not (sandbox.hide_system and sandbox.memory_deny_write_execute and sandbox.filter_system_calls):
        pytest.skip("parts of the sandbox are switched off")
    assert app.target.exposure(app.service) <= EXPOSURE[sandbox.network]


def test_app_reaches_what_it_may(app: App) -> None:
    """Nothing but Unix sockets where that is set: its network has no link but a loopback of its own."""
    links = app.target.run("nsenter --target %s --net -- cat /proc/net/dev", app.pid)
    names = {line.split(":")[0].strip() for line in links.splitlines() if ":" in line}
    assert (names == {"lo"}) is (app.settings.sandbox.network == "unix"), names


def leaked(app: App, text: str) -> list[str]:
    """Names of the app's variables whose secret values are in `text`."""
    secret = app.settings.secret_values
    values = {name: value for name, value in app.settings.environment.items() if value in secret}
    return sorted(name for name, value in values.items() if len(value) >= SHORTEST_SECRET and value in text)


@pytest.fixture
def secrets(app: App) -> None:
    """Skip the test for an app without secrets that could be recognised."""
    if not any(len(value) >= SHORTEST_SECRET for value in app.settings.secret_values):
        pytest.skip(f"env_file has no value of {SHORTEST_SECRET} characters or more to look for")


@pytest.mark.usefixtures("secrets")
def test_secrets_are_not_in_the_units(app: App) -> None:
    """`systemctl show` and `systemctl cat` answer every user of the host."""
    text = app.target.run("systemctl show -- %s %s; systemctl cat -- %s %s", *[app.service, app.socket_unit] * 2)
    found = leaked(app, text)
    assert not found, f"systemctl shows the value of {', '.join(found)}"


@pytest.mark.usefixtures("secrets")
def test_secrets_are_not_in_what_releases_record(app: App) -> None:
    """What the release program was told, what it wrote down, and what it said."""
    folder = f"/var/lib/slipway/{app.name}"
    text = app.target.run(f"cat {app.settings.release_config_path}; find {folder} -type f -exec cat {{}} +")
    found = leaked(app, text)
    assert not found, f"the release's records hold the value of {', '.join(found)}"


@pytest.mark.usefixtures("secrets")
def test_secrets_are_not_world_readable(app: App) -> None:
    """Configuration that anybody may read, and the command lines of all processes."""
    found = leaked(app, app.target.world_readable)
    assert not found, f"any user of the host may read the value of {', '.join(found)}"
