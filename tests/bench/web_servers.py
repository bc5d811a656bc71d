"""One application served two ways: `python web_servers.py split|single PORT FOLDER`, for `test_bench_web.py`.

`split` is what the daemon does; `single` ends TLS in the process of the application. Besides the API over fakes there
are `/sink`, which takes a body, and `/source?BYTES`, which sends one.
"""

import asyncio
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from bastide.api.app import create_app
from bastide.host.certificate import ensure_certificate
from bastide.web.connection import Gate
from bastide.web.door import Door
from bastide.web.listeners import Listener, secure_context
from bastide.web.marks import LOCAL
from bastide.web.serve import serve
from framework.api import Api

_PART = bytes(256 * 1024)


def application(api: Any) -> Any:
    """The API as root has it, and the two transfers."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] not in ("/sink", "/source"):
            await api({**scope, LOCAL: True}, receive, send)
            return
        more = scope["path"] == "/sink"
        while more:
            more = (await receive()).get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        left = int(scope["query_string"] or b"0")
        while left > 0:
            await send({"type": "http.response.body", "body": _PART, "more_body": True})
            left -= len(_PART)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    return app


async def single(_door: Door, listening: socket.socket, certificate: Path, key: Path, stop: asyncio.Event) -> None:
    """A front without a process of its own."""
    both = certificate.with_name("both.pem")
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    await Listener(listening, _door._app, Gate(), secure_context(both)).run(stop)


async def main() -> None:
    """Serve until SIGTERM; the word `ready` on standard output says that it does."""
    way, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    api = await Api.make(folder)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    certificate, key = ensure_certificate(folder, "pve", ["127.0.0.1"])
    await serve(
        application(create_app(api.services)),
        listen="127.0.0.1",
        port=port,
        certificate=certificate,
        key=key,
        unix_socket_at=folder / "api.sock",
        stop=stop,
        ready=lambda: print("ready", flush=True),
        **({"front": single} if way == "single" else {}),
    )


if __name__ == "__main__":
    asyncio.run(main())
