"""Programs of tests/audit/onhost on a host: put there for one run, in a folder that is removed again."""

from __future__ import annotations

import base64
import io
import shlex
import tarfile
from pathlib import Path

from tests.audit.subject import Subject

PACKAGE = Path(__file__).parent / "onhost"
SECONDS = 600
"""Time after which a program is told to end, which it does when it has removed what it made."""

_RUN = """d=$(mktemp -d) && trap 'rm -rf "$d"' EXIT && cd "$d"
base64 -d <<'END' | tar -xz
{archive}
END
PYTHONDONTWRITEBYTECODE=1 timeout {seconds} python3 -m tests.audit.onhost.{module} {arguments}
"""


def archive() -> str:
    """The programs as a tar.gz in base64, which needs no quoting."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path in sorted(PACKAGE.glob("*.py")):
            if path.name != "__init__.py":
                tar.add(path, f"tests/audit/onhost/{path.name}")
    return base64.encodebytes(buffer.getvalue()).decode().strip()


def run_placed(subject: Subject, module: str, *arguments: str) -> str:
    """What a module of them prints on the host, as root; DidNotLook where it fails."""
    return subject.run(_RUN.format(archive=archive(), seconds=SECONDS, module=module, arguments=shlex.join(arguments)))
