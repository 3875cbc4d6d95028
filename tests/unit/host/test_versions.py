"""The version of a source without git's history, as `git describe` told it."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.version import Version
from slipway_host.release import sources

from tests.unit.host.prepared import COMMIT, place_at


@pytest.mark.parametrize(
    ("described", "version"),
    [
        ("v1.2.3-0-gabcdef0", "1.2.3"),
        ("1.2.3rc1-0-gabcdef0", "1.2.3rc1"),
        ("v1.2.3-5-gabcdef0", "1.2.4.dev5+gabcdef0"),
        ("release-2024.9-12-gabcdef0", "2024.10.dev12+gabcdef0"),
        ("release-1.2-0-gabcdef0", "1.2"),
        ("v1.2-rc1-0-gabcdef0", "1.2-rc1"),
        ("v1.2-rc1-3-gabcdef0", "1.2-rc2.dev3+gabcdef0"),
        ("v1.2.post1-3-gabcdef0", "1.2.post2.dev3+gabcdef0"),
        ("v1.2rc-3-gabcdef0", "1.2rc1.dev3+gabcdef0"),
        ("v1.2.dev0-3-gabcdef0", "1.2.dev3+gabcdef0"),
        ("1.2+local.1-3-gabcdef0", "1.3.dev3+gabcdef0"),
        ("1.2-hotfix-0-gabcdef0", "1.2"),
        ("1.2-hotfix-3-gabcdef0", "1.3.dev3+gabcdef0"),
        ("app2/v1.0-0-gabcdef0", "1.0"),
        ("kit1.4-0-gabcdef0", "1.4"),
        ("1!2.0-0-gabcdef0", "1!2.0"),
        ("", "0.1.dev0"),
        ("v-0-gabcdef0", "0.1.dev0"),
    ],
)
def test_versions(described: str, version: str) -> None:
    assert sources.as_version(described) == version


@pytest.mark.parametrize("tag", ["v1.2-rc1", "release-1.2", "2024-01-15", "1.2-hotfix", "kit_1.2.post3", "1.2.dev5"])
@pytest.mark.parametrize("distance", [0, 3])
def test_a_version_is_always_one(tag: str, distance: int) -> None:
    """Whatever the tag: what makes the project's metadata refuses others."""
    Version(sources.as_version(f"{tag}-{distance}-gabcdef0"))


def test_what_the_operator_sets_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = place_at(tmp_path, monkeypatch)
    place.app.wanted["build"]["env"] = {"SETUPTOOLS_SCM_PRETEND_VERSION": "7"}
    assert "SETUPTOOLS_SCM_PRETEND_VERSION" not in sources.version(place.app)
    assert sources.version(place.app)["PDM_BUILD_SCM_VERSION"] == "0.1.dev0"


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
