"""What every host has: packages, time zone, name, and a journal that can't fill the disk."""

from roles.base.role import FIRST, FOLDERS, JOURNAL, PACKAGES, base

__all__ = ["FIRST", "FOLDERS", "JOURNAL", "PACKAGES", "base"]
