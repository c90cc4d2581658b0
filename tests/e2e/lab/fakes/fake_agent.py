"""An agent that only says it is ready: `--settings FILE` with `http_socket`. Ready while `FILE.unready` is
absent.
"""

import json
import os
import socketserver
import sys
import tomllib
from http.server import BaseHTTPRequestHandler
from pathlib import Path

SETTINGS = Path(sys.argv[sys.argv.index("--settings") + 1])
NEVER_READY = bool(tomllib.loads(SETTINGS.read_text()).get("never_ready"))


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ready = not NEVER_READY and not SETTINGS.with_name(SETTINGS.name + ".unready").exists()
        body = json.dumps(
            {
                "reasons": [] if ready else ["pod default/a has no interface yet"],
                "endpoints": {"default/a": {"identity": 12345, "enforced": "egress"}},
            }
        ).encode()
        self.send_response(200 if ready else 503)
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "lab"


if __name__ == "__main__":
    settings = tomllib.loads(SETTINGS.read_text())
    if settings.get("fail"):
        print("line one\ncannot bind: something is wrong here", flush=True)
        sys.exit(3)
    if os.path.exists(settings["http_socket"]):
        os.unlink(settings["http_socket"])
    with socketserver.ThreadingUnixStreamServer(settings["http_socket"], Ready) as server:
        server.serve_forever()
