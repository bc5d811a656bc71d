"""Bytes that a host can download: a server on the host's own bridge, since no download reaches loopback."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from framework.host import Host


@contextmanager
def served(host: Host, data: bytes) -> Iterator[str]:
    """Serve these bytes under any name; yields `http://ADDRESS:PORT`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    shown = subprocess.run(["ip", "-j", "-4", "addr", "show", host.bridge], capture_output=True, check=True)
    address = json.loads(shown.stdout)[0]["addr_info"][0]["local"]
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
