"""Says who asks, and takes its time: plain WSGI, made by a function."""

import json
import os
import time
from typing import Any
from urllib.parse import parse_qs


def create_app(stage: str = "production") -> Any:
    """The application of a stage."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        size = len(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        asked = parse_qs(environ.get("QUERY_STRING", ""))
        time.sleep(float(asked.get("seconds", ["0"])[0]))
        told = {
            "client": environ["REMOTE_ADDR"],
            "scheme": environ["wsgi.url_scheme"],
            "path": environ["PATH_INFO"],
            "body": size,
            "head": sum(len(value) for name, value in environ.items() if name.startswith("HTTP_")),
            "worker": os.getpid(),
            "version": os.environ.get("VERSION", ""),
            "stage": stage,
        }
        body = json.dumps(told).encode()
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    return app
