r"""Text that others wrote, as a terminal may show it: what would steer it is written out, such as ``\x1b``.

Foreign is what a host answers and what its commands print: a commit's subject, the SQL of a migration, a log's lines.
It passes here where it comes in to be shown: lines of commands in `slipway.transport.connector`, changes of a plan in
`slipway.engine.plan`, and everything that `slipway.cli.screen` prints. The host's program does the same
(slipway_host/text.py).
"""

from __future__ import annotations

import re

_STEERS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001"
    "\U000e0020-\U000e007f\ud800-\udfff]"
)
"""Control characters but tab and line feed; Unicode's format characters (bidirectional, zero-width) and separators of
lines; halves of a character."""


def visible(text: str) -> str:
    """`text` as it may be shown; lines and tabs stay. Of a line that a progress bar drew anew, what it drew last."""
    lines = text.replace("\r\n", "\n").split("\n")
    drawn = [next((part for part in reversed(line.split("\r")) if part), "") for line in lines]
    return _STEERS.sub(_written_out, "\n".join(drawn))


def one_line(text: str) -> str:
    """`text` as it may be shown where one line is expected: what would end that is written out, too."""
    return _STEERS.sub(_written_out, text).replace("\n", "\\x0a").replace("\t", " ")


def _written_out(found: re.Match[str]) -> str:
    number = ord(found[0])
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
