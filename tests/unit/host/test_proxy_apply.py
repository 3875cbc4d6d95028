"""Another configuration of nginx's, on a host that is a folder: it serves, or what was there before does."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from slipway_host.proxy import generations
from slipway_host.proxy.nginx import Refused
from slipway_host.system import Failed

from tests.unit.host.folders import tree
from tests.unit.host.proxies import Proxy, configuration, debian


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A host as Debian's package leaves it."""
    return debian(tmp_path, monkeypatch)


# ── the first one ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_first_configuration(proxy: Proxy) -> None:
    before = os.umask(0o002)
    try:
        proxy.nginx.apply(configuration())
    finally:
        os.umask(before)
    name = proxy.live
    assert tree(proxy.etc) == {
        "nginx.conf": "-> slipway/nginx.conf",
        "nginx.conf.before-slipway": "# Debian's\n",
        "slipway": f"-> slipway.d/{name}",
        f"slipway.d/{name}/nginx.conf": f"# {name} one\n",
        f"slipway.d/{name}/sites/notes.conf": "# one\n",
        f"slipway.d/{name}/sites/wiki-next.conf": "#\n",
        "upstreams/notes.conf": proxy.upstream("notes", None),
        "upstreams/wiki-next.conf": proxy.upstream("wiki-next", None),
    }
    assert proxy.proven == [{"/generation": name, "/release/notes": "none", "/release/wiki-next": "none"}]
    for path in (proxy.etc / "slipway.d").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o755 if path.is_dir() else 0o644), path


def test_the_first_configuration_is_validated_as_nginx_will_read_it(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    candidate = proxy.etc / "slipway.d" / proxy.live
    ((folder, main),) = proxy.validated
    assert folder == (candidate, candidate.resolve())
    assert main == (candidate / "nginx.conf", proxy.etc / "nginx.conf")


def test_the_first_configuration_refused(proxy: Proxy) -> None:
    proxy.refuses = "no"
    with pytest.raises(Refused, match=r"^no$"):
        proxy.nginx.apply(configuration())
    assert not (proxy.etc / "slipway").is_symlink()
    assert (proxy.etc / "nginx.conf").read_text() == "# Debian's\n"
    assert proxy.proven == [] and proxy.system.calls == []


@pytest.mark.parametrize("error", [Refused, Failed])
def test_the_first_configuration_not_live(proxy: Proxy, error: type[Failed]) -> None:
    proxy.not_live, proxy.error = "port 80 is taken", error
    with pytest.raises(Refused, match=r"^port 80 is taken\nThe previous configuration was restored.$"):
        proxy.nginx.apply(configuration())
    assert not (proxy.etc / "nginx.conf").is_symlink()
    assert (proxy.etc / "nginx.conf").read_text() == "# Debian's\n"
    assert proxy.system.calls == ["systemctl reload nginx"]
    proxy.not_live = None
    proxy.nginx.apply(configuration())
    assert generations.managed(proxy.layout)


# ── another one ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_another_configuration(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    first = proxy.live
    proxy.nginx.apply(configuration("two"))
    assert proxy.live != first and proxy.generations == {first, proxy.live}
    live = proxy.etc / "slipway.d" / first
    assert proxy.validated[-1] == [(proxy.etc / "slipway.d" / proxy.live, live.resolve())]
    assert (proxy.etc / "nginx.conf.before-slipway").read_text() == "# Debian's\n"


def test_a_refused_configuration_changes_nothing(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    first, main = proxy.live, tree(proxy.etc / "slipway")
    proxy.refuses = "no"
    with pytest.raises(Refused, match=r"^no$"):
        proxy.nginx.apply(configuration("two"))
    assert proxy.live == first and tree(proxy.etc / "slipway") == main
    assert len(proxy.proven) == 1, "nothing to reload"
    assert proxy.system.calls == []


@pytest.mark.parametrize("error", [Refused, Failed])
def test_a_configuration_that_is_not_live_is_taken_back(proxy: Proxy, error: type[Failed]) -> None:
    proxy.nginx.apply(configuration())
    first = proxy.live
    proxy.not_live, proxy.error = "no new worker", error
    with pytest.raises(Refused, match=r"^no new worker\nThe previous configuration was restored.$"):
        proxy.nginx.apply(configuration("two"))
    assert proxy.live == first
    assert proxy.system.calls == ["systemctl reload nginx"]


def test_a_configuration_that_is_not_live_and_has_none_before_it_stays(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    first = proxy.live
    proxy.not_live = "no"
    with pytest.raises(Refused, match=r"^no$"):
        proxy.nginx.apply(configuration())
    assert proxy.live == first and proxy.generations == {first}


def test_a_configuration_that_is_not_live_stays_where_the_one_before_is_gone(proxy: Proxy) -> None:
    """The files on disk name one that is there."""
    proxy.nginx.apply(configuration())
    shutil.rmtree(proxy.etc / "slipway.d")
    proxy.not_live = "no"
    with pytest.raises(Refused, match=r"^no$"):
        proxy.nginx.apply(configuration("two"))
    assert proxy.generations == {proxy.live}
    assert tree(proxy.etc / "slipway")["sites/notes.conf"] == "# two\n"


def test_an_upstream_that_was_damaged_is_repaired(proxy: Proxy) -> None:
    """After a full disk, or by hand: nginx sees the right one, and then it is there."""
    proxy.nginx.apply(configuration())
    proxy.nginx.switch("notes", "r1")
    path = proxy.etc / "upstreams/notes.conf"
    damaged = path.read_text().replace("keepalive 64", "keepalive 1")
    path.write_text(damaged)
    proxy.refuses = "no"
    with pytest.raises(Refused):
        proxy.nginx.apply(configuration("two"))
    assert path.read_text() == damaged, "nothing was changed"
    proxy.refuses = None
    proxy.nginx.apply(configuration("two"))
    assert [place for _, place in proxy.validated[-1]][1:] == [path]
    assert path.read_text() == proxy.upstream("notes", "r1")
    assert not [name for name in tree(proxy.etc) if "partial" in name]


# ── generations ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_generation_that_serves_and_the_one_before_are_kept(proxy: Proxy) -> None:
    names = []
    for text in ("one", "two", "three", "four"):
        proxy.nginx.apply(configuration(text))
        names.append(proxy.live)
    assert proxy.generations == set(names[-2:])


def test_going_back_uses_the_generation_that_is_there(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration("one"))
    first = proxy.live
    proxy.nginx.apply(configuration("two"))
    proxy.nginx.apply(configuration("one"))
    assert proxy.live == first


def test_a_generation_that_was_edited_by_hand_is_not_believed(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    first = proxy.live
    edited = proxy.etc / "slipway.d" / first / "sites/notes.conf"
    edited.write_text("# by hand\n")
    proxy.nginx.apply(configuration())
    assert proxy.live == f"{first}.2"
    assert tree(proxy.etc / "slipway")["sites/notes.conf"] == "# one\n"
    assert tree(proxy.etc / "slipway")["nginx.conf"] == f"# {first}.2 one\n"
    assert proxy.proven[-1]["/generation"] == f"{first}.2"
    (proxy.etc / "slipway.d" / f"{first}.2" / "sites/new.conf").write_text("# by hand\n")
    proxy.nginx.apply(configuration())
    assert proxy.live == f"{first}.3" and proxy.generations == {f"{first}.2", f"{first}.3"}


def test_what_a_killed_run_left_is_swept(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    (proxy.etc / "slipway.d/.abc.partial/sites").mkdir(parents=True)
    (proxy.etc / "slipway.d/.abc.partial/sites/notes.conf").write_text("half")
    (proxy.etc / "upstreams/.notes.conf.candidate.partial").write_text("half")
    (proxy.etc / ".slipway.partial").symlink_to("slipway.d/none")
    (proxy.etc / ".nginx.conf.partial").write_text("half")
    proxy.nginx.apply(configuration("two"))
    assert not [path for path in tree(proxy.etc) if "partial" in path]
    assert not (proxy.etc / "slipway.d/.abc.partial").exists()


def test_a_half_written_generation_of_the_same_name_is_written_anew(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    name = proxy.live
    shutil.rmtree(proxy.etc / "slipway.d")
    (proxy.etc / f"slipway.d/.{name}.partial").mkdir(parents=True)
    (proxy.etc / f"slipway.d/.{name}.partial/stray.conf").write_text("half")
    proxy.nginx.apply(configuration())
    assert set(tree(proxy.etc / "slipway")) == set(configuration())
