"""What is done about nginx's configuration on a host that is a folder: questions, a check, a switch, a reload."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path
from typing import Any

import pytest
from slipway_host.proxy import generations, nginx
from slipway_host.proxy.nginx import Refused
from slipway_host.system import Failed

from tests.unit.host.folders import tree
from tests.unit.host.proxies import Proxy, configuration, debian


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Proxy:
    """A host as Debian's package leaves it."""
    return debian(tmp_path, monkeypatch)


# ── upstreams ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upstream_with_a_release(proxy: Proxy) -> None:
    text = proxy.upstream("wiki-next", "20260101T000000Z-abc")
    socket = proxy.layout.root / "run/wiki-next/20260101T000000Z-abc.sock"
    assert f"upstream wiki-next {{\n    server unix:{socket};\n" in text
    assert 'map "" $release_wiki_next {\n    default "20260101T000000Z-abc";\n}\n' in text
    assert "none" not in text and "down" not in text
    assert text.startswith("# Managed by Slipway (slipway nginx switch): the release that serves.\n")


def test_an_upstream_before_the_first_release(proxy: Proxy) -> None:
    text = proxy.upstream("notes", None)
    assert f"server unix:{proxy.layout.root}/run/notes/none.sock down;" in text
    assert 'default "none";' in text


def test_nginx_closes_an_idle_connection_before_the_app_does(proxy: Proxy) -> None:
    """60 s here, and 75 s is the app's keep_alive by default; the other way round a request would be lost."""
    assert "keepalive 64;\n    keepalive_timeout 60s;\n" in proxy.upstream("notes", "r")


def test_the_release_that_serves_is_known_without_an_upstream_file(proxy: Proxy) -> None:
    at = proxy.layout.app("notes")
    assert generations.named_release(at) is None
    at.srv.mkdir(parents=True)
    at.current.symlink_to("releases/r1")
    assert generations.named_release(at) == "r1"
    proxy.nginx.apply(configuration())
    assert proxy.layout.upstream("notes").read_text() == proxy.upstream("notes", "r1")
    proxy.nginx.switch("notes", "r2")
    assert generations.named_release(at) == "r2", "what nginx was told counts"


# ── a switch, a reload, a check ──────────────────────────────────────────────────────────────────────────────────


def test_the_release_that_serves_survives_another_configuration(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    proxy.nginx.switch("notes", "r1")
    proxy.nginx.apply(configuration("two"))
    assert proxy.proven[-1]["/release/notes"] == "r1"
    assert (proxy.etc / "upstreams/notes.conf").read_text() == proxy.upstream("notes", "r1")


def test_a_switch(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    proxy.nginx.switch("notes", "r1")
    path = proxy.etc / "upstreams/notes.conf"
    assert path.read_text() == proxy.upstream("notes", "r1")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert proxy.validated[-1][0][1] == path and proxy.proven[-1] == {"/release/notes": "r1"}
    assert not [name for name in tree(proxy.etc) if "partial" in name]


@pytest.mark.parametrize("error", [Refused, Failed])
@pytest.mark.parametrize("what", ["refuses", "not_live"])
def test_a_switch_that_fails(proxy: Proxy, what: str, error: type[Failed]) -> None:
    proxy.nginx.apply(configuration())
    proxy.nginx.switch("notes", "r1")
    before = tree(proxy.etc)
    proxy.error = error
    setattr(proxy, what, "no")
    with pytest.raises(Refused) as told:
        proxy.nginx.switch("notes", "r2")
    assert tree(proxy.etc) == before
    assert str(told.value) == ("no" if what == "refuses" else "no\nThe previous release keeps serving.")
    assert proxy.system.calls == ([] if what == "refuses" else ["systemctl reload nginx"])


def test_a_switch_sweeps_what_a_killed_one_left(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    (proxy.etc / "upstreams/.notes.conf.candidate.partial").write_text("half")
    (proxy.etc / "upstreams/.wiki-next.conf.candidate.partial").write_text("another app's, maybe under way")
    proxy.nginx.switch("notes", "r1")
    assert [name for name in tree(proxy.etc) if "partial" in name] == ["upstreams/.wiki-next.conf.candidate.partial"]


def test_a_reload_proves_what_is_on_disk(proxy: Proxy) -> None:
    proxy.nginx.apply(configuration())
    proxy.nginx.switch("wiki-next", "r1")
    proxy.nginx.reload()
    assert proxy.validated[-1] == []
    assert proxy.proven[-1] == {"/generation": proxy.live, "/release/notes": "none", "/release/wiki-next": "r1"}
    assert proxy.unmasks == [True, False, False], "a renewal starts nothing that somebody switched off"


def test_a_check_changes_nothing(proxy: Proxy) -> None:
    """A release is about to switch: is what is on disk, whoever wrote it, what nginx would take?"""
    proxy.nginx.apply(configuration())
    before = tree(proxy.etc)
    proxy.nginx.check()
    assert proxy.validated[-1] == [] and len(proxy.proven) == 1 and proxy.system.calls == []
    proxy.refuses = "nginx refuses the configuration"
    with pytest.raises(Refused, match=r"^nginx refuses the configuration$"):
        proxy.nginx.check()
    assert tree(proxy.etc) == before


def test_one_change_at_a_time(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Questions don't wait."""
    monkeypatch.setattr(nginx, "LOCK_SECONDS", 1)
    proxy.nginx.apply(configuration())
    before, lock = tree(proxy.etc), proxy.layout.nginx_lock
    changes: list[Any] = [proxy.nginx.check, proxy.nginx.reload]
    changes += [lambda: proxy.nginx.switch("notes", "r1"), lambda: proxy.nginx.apply(configuration("two"))]
    with proxy.system.locked(lock, 0):
        for change in changes:
            with pytest.raises(Refused) as told:
                change()
            assert str(told.value) == (
                f"Another change of nginx did not end within 1 s (`fuser -v {lock}` names it); nothing was changed. "
                "Run again."
            )
        proxy.answers(monkeypatch, {})
        assert proxy.nginx.status()["generation"] == proxy.live
    assert tree(proxy.etc) == before
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600, "who can open it can hold it"
    proxy.nginx.check()


# ── the status ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_status(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    assert proxy.nginx.status() == {"generation": None, "managed": False, "live": False, "since": None, "files": {}}
    proxy.nginx.apply(configuration())
    served: dict[str, str | None] = {"/generation": proxy.live, "/release/notes": "none", "/release/wiki-next": "none"}
    proxy.answers(monkeypatch, served)
    files = generations.named(configuration(), proxy.live)
    about = {"generation": proxy.live, "managed": True, "live": True, "since": None}
    assert proxy.nginx.status() == about | {"files": files}
    others: list[dict[str, str | None]] = [{"/generation": "old"}, {"/release/notes": "r0"}, {"/generation": None}]
    for other in others:
        proxy.answers(monkeypatch, served | other)
        assert proxy.nginx.status()["live"] is False, other
    assert proxy.system.calls == [], "it is asked on every run"


@pytest.mark.parametrize("what", ["main", "upstream", "half an upstream", "generation"])
def test_the_status_of_a_host_that_somebody_changed(proxy: Proxy, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    proxy.nginx.apply(configuration())
    proxy.answers(monkeypatch, generations.expectation(proxy.layout))
    assert proxy.nginx.status()["live"] is True
    upstream = proxy.etc / "upstreams/notes.conf"
    if what == "main":
        (proxy.etc / "nginx.conf").unlink()
        (proxy.etc / "nginx.conf").write_text("# by hand\n")
    elif what == "upstream":
        upstream.unlink()
    elif what == "half an upstream":
        upstream.write_text(upstream.read_text()[:-20])
    else:
        shutil.rmtree(proxy.etc / "slipway.d")
    found = proxy.nginx.status()
    assert found["live"] is False or found["files"] != generations.named(configuration(), proxy.live)
