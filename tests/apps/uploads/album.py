"""Takes files by PUT /files/NAME. All that it has lies in its own folder: files, database, log, settings."""

import configparser
import json
import logging
import sqlite3
from pathlib import Path

HERE = Path(__file__).parent
SETTINGS = configparser.ConfigParser()
SETTINGS.read(HERE / "settings.ini")
logging.basicConfig(filename=HERE / "logs/album.log", level=logging.INFO)
log = logging.getLogger("album")

base = sqlite3.connect(HERE / "album.db", check_same_thread=False, isolation_level=None)
base.execute("PRAGMA journal_mode=WAL")
base.execute("CREATE TABLE IF NOT EXISTS file (name TEXT PRIMARY KEY, size INTEGER)")


async def app(scope, receive, send):
    """PUT keeps a file; everything else tells what there is."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["method"] == "PUT":
        content, more = b"", True
        while more:
            message = await receive()
            content, more = content + message.get("body", b""), message.get("more_body", False)
        name = scope["path"].rpartition("/")[2]
        (HERE / "media" / name).write_bytes(content)
        base.execute("INSERT OR REPLACE INTO file VALUES (?, ?)", (name, len(content)))
        log.info("%s has %d bytes", name, len(content))
    told = {
        "files": dict(base.execute("SELECT name, size FROM file ORDER BY name")),
        "media": sorted(path.name for path in (HERE / "media").iterdir()),
        "log": len((HERE / "logs/album.log").read_text().splitlines()),
        "mail": SETTINGS.get("mail", "password", fallback=None) is not None,
    }
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(told).encode()})
