"""Print as JSON the command lines that had one of some texts.

stdin: {"needles": the texts, "flag": a file; this watches from its making until it is removed}
"""

import json
import os
import sys
import time
from pathlib import Path

given = json.load(sys.stdin)
needles = [each.encode() for each in given["needles"]]
flag, own = Path(given["flag"]), os.getpid()
seen = {}
flag.touch()
while flag.exists():
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if int(process.name) != own and any(each in line for each in needles):
            seen[line.replace(b"\0", b" ").decode(errors="replace")[:300]] = True
    time.sleep(0.002)
print(json.dumps(list(seen)))
