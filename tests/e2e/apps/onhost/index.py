"""A package index at 127.0.0.1:8099 that passes on what PyPI has, and prints the path of each request."""

import http.server
import shutil
import urllib.error
import urllib.request

UPSTREAM = "https://pypi.org"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        print(self.path, flush=True)
        headers = {"Accept": self.headers.get("Accept", "*/*"), "User-Agent": "slipway"}
        try:
            with urllib.request.urlopen(urllib.request.Request(UPSTREAM + self.path, headers=headers)) as answer:
                self.send_response(200)
                self.send_header("Content-Type", answer.headers["Content-Type"])
                self.end_headers()
                shutil.copyfileobj(answer, self.wfile)
        except urllib.error.HTTPError as error:
            self.send_error(error.code)

    def log_message(self, *_: object) -> None:
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", 8099), Handler).serve_forever()
