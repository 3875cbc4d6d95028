"""What lies in a folder, to be compared."""

from __future__ import annotations

from pathlib import Path


def tree(folder: Path) -> dict[str, str]:
    """Relative path → content of a file, or the target of a link."""
    return {
        str(path.relative_to(folder)): f"-> {path.readlink()}" if path.is_symlink() else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
