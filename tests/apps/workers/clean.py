"""A job of each app here that starts at a time; it fails if a file says so."""

import os
import sys
from pathlib import Path

import job

job.note("ended", "clean")
if Path(os.environ["STATE_DIRECTORY"], "fail").exists():
    sys.exit(3)
