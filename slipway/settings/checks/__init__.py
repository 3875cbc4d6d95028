"""What no single value shows: settings that contradict each other, and the files they name."""

from slipway.settings.checks.host import check, check_login
from slipway.settings.checks.keys import check_ssh_key
from slipway.settings.checks.report import Report, public_name

__all__ = ["Report", "check", "check_login", "check_ssh_key", "public_name"]
