"""Mails by the host's sendmail, and JSON to a server."""

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure, NotSupported
from bastide.host import outbox

pytestmark = pytest.mark.anyio


@pytest.fixture
def sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a sendmail that keeps what it gets, and refuses what is for `nobody`."""
    program = tmp_path / "sendmail"
    program.write_text(
        f'#!/bin/sh\necho "$@" > {tmp_path}/argv\ncat > {tmp_path}/mail\n'
        'case "$*" in *nobody*) echo "no such user" >&2; exit 67;; esac\n'
    )
    program.chmod(0o700)
    monkeypatch.setattr(outbox, "PATH", str(tmp_path))
    return tmp_path


async def test_a_mail_is_handed_over(sendmail: Path) -> None:
    await outbox.send_mail(["ada@example.org", "root"], "backup\nfailed: é", "VM 100 …\n")
    assert (sendmail / "argv").read_text().split() == ["-i", "-f", "root", "--", "ada@example.org", "root"]
    mail = message_from_bytes((sendmail / "mail").read_bytes(), policy=policy.default)
    assert (mail["Subject"], mail["To"]) == ("backup failed: é", "ada@example.org, root")
    assert mail.get_content() == "VM 100 …\n"
    with pytest.raises(HostFailure, match="no such user"):
        await outbox.send_mail(["nobody"], "x", "y")
    (sendmail / "sendmail").unlink()
    with pytest.raises(NotSupported, match="no mail system"):
        await outbox.send_mail(["ada"], "x", "y")


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    """A server's address, and what it was sent."""
    got: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response({"/ok": 204, "/moved": 302}.get(self.path, 500))
            self.send_header("Location", "/ok")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{made.server_port}", got
        made.shutdown()


async def test_json_is_posted_and_a_secret_path_is_never_told(server: tuple[str, list[Any]]) -> None:
    address, got = server
    await outbox.post_json(f"{address}/ok", {"status": "ok"})
    assert got == [{"status": "ok"}]
    for path, told in (("/secret-token", "HTTP 500"), ("/moved", "HTTP 302")):
        with pytest.raises(HostFailure, match=told) as failure:
            await outbox.post_json(address + path, {})
        assert "secret-token" not in str(failure.value)
    assert len(got) == 3, "redirects are not followed"
    with pytest.raises(HostFailure, match="cannot be reached") as failure:
        await outbox.post_json("http://127.0.0.1:1/secret-token", {})
    assert "secret-token" not in str(failure.value)


async def test_a_server_that_is_silent_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(_reader: Any, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)
        writer.close()

    monkeypatch.setattr(outbox, "_DEADLINE", 0.3)
    listening = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    with pytest.raises(DeadlineExceeded, match="did not answer"):
        await outbox.post_json(f"http://127.0.0.1:{port}/x", {})
    listening.close()
