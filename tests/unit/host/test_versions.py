"""The version of a source without git's history, as `git describe` told it."""

from __future__ import annotations

from pathlib import Path

import pytest
from slipway_host.release import sources

from tests.unit.host.prepared import COMMIT, place_at


@pytest.mark.parametrize(
    ("described", "version"),
    [
        ("v1.2.3-0-gabcdef0", "1.2.3"),
        ("1.2.3rc1-0-gabcdef0", "1.2.3rc1"),
        ("v1.2.3-5-gabcdef0", "1.2.4.dev5+gabcdef0"),
        ("release-2024.9-12-gabcdef0", "2024.10.dev12+gabcdef0"),
        ("", "0.1.dev0"),
        ("v-0-gabcdef0", "0.1.dev0"),
    ],
)
def test_versions(described: str, version: str) -> None:
    assert sources.as_version(described) == version


def test_whom_a_build_tells_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_at(tmp_path, monkeypatch)
    place.app.wanted["source"]["described"] = "v1.2.3-0-gabcdef0"
    assert sources.version(place.app) == {
        "SETUPTOOLS_SCM_PRETEND_VERSION": "1.2.3",
        "PDM_BUILD_SCM_VERSION": "1.2.3",
        "UV_DYNAMIC_VERSIONING_BYPASS": "1.2.3",
        "POETRY_DYNAMIC_VERSIONING_BYPASS": "1.2.3",
    }
    place.app.wanted["source"]["kind"] = "git"
    place.system.printing["describe"] = "v2.0-1-gabcdef0\n"
    assert sources.version(place.app)["PDM_BUILD_SCM_VERSION"] == "2.1.dev1+gabcdef0"
    described = f"git -C {place.at.mirror} describe --tags --long --match *[0-9]* {COMMIT}"
    assert place.system.calls == [described]
    place.system.failing["describe"] = "fatal: No names found"
    assert sources.version(place.app)["PDM_BUILD_SCM_VERSION"] == "0.1.dev0"
