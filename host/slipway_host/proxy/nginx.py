"""nginx, as far as releases ask for it: the names alone."""

from __future__ import annotations

from slipway_host.system import Failed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipway_host.protocol import NginxStatus
    from slipway_host.system import System


class Refused(Failed):
    """nginx's configuration can't become what was asked for; it is as it was."""


class Nginx:
    """This host's nginx."""

    def __init__(self, system: System) -> None:
        self.system = system

    def check(self) -> None:
        """Fail unless nginx takes its configuration as it is."""
        raise NotImplementedError

    def switch(self, app: str, release: str) -> None:
        """Send an app's requests to a release."""
        raise NotImplementedError

    def reload(self) -> None:
        """Let nginx serve its configuration as it is."""
        raise NotImplementedError

    def apply(self, files: Mapping[str, str]) -> None:
        """Make these files its configuration."""
        raise NotImplementedError

    def status(self) -> NginxStatus:
        """What its configuration is, and whether the running nginx serves just that."""
        raise NotImplementedError

    def workers(self) -> dict[int, str]:
        """Process id → title of nginx's workers."""
        raise NotImplementedError
