"""What the wheel carries inside of the package, as slipway/project/…: in a clone it lies at the top level."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

CARRIED = (
    "deploy.py",
    "config.py",
    "tasks",
    "roles",
    "templates",
    "files",
    "tests/__init__.py",
    "tests/host",
)


class Project(BuildHookInterface):  # type: ignore[type-arg, misc, unused-ignore]
    """Puts the project's folder into a wheel, and not into an editable one, which is the clone itself."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Say where each part goes."""
        if version == "standard":
            build_data["force_include"].update({path: f"slipway/project/{path}" for path in CARRIED})
