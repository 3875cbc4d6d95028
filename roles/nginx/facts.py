"""nginx's version on the host."""

from __future__ import annotations

import re
from typing import NamedTuple

from pyinfra.api import FactBase
from typing_extensions import override

from slipway.engine.question import Question


class Versions(NamedTuple):
    """What decides how nginx is configured."""

    nginx: tuple[int, int, int]
    openssl: tuple[int, int]
    """Of the library that nginx runs with: major, minor."""


class NginxVersion(FactBase["Versions | None"]):
    """Versions of the nginx that is installed and of its OpenSSL; None where there is none."""

    @override
    @staticmethod
    def default() -> None:
        return None

    @override
    def command(self) -> Question:
        return Question("! command -v nginx >/dev/null || nginx -V 2>&1 | head -n 3")

    @override
    def process(self, output: list[str]) -> Versions | None:
        text = "\n".join(output)
        nginx = re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", text)
        # "built with OpenSSL …", and "(running with OpenSSL …)" behind it where that is another.
        libraries = re.findall(r"OpenSSL (\d+)\.(\d+)", text)
        if nginx is None:
            return None
        major, minor = libraries[-1] if libraries else (0, 0)
        return Versions((int(nginx[1]), int(nginx[2]), int(nginx[3])), (int(major), int(minor)))
