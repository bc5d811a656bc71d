"""`exec` in a VM from a terminal: its agent has none, so the command runs without one, or a hint is given."""

import contextlib
import json
import os
import pty
import sys
import threading
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import unix_serve

REFUSED = "a terminal is not supported by the guest agent of VM 100: give a command without one"


@pytest.fixture
def asked(root):
    """A daemon with a VM that runs commands without a terminal; the parameters of each request."""
    requests = []

    def refuse(connection, request):
        parts = urlsplit(request.path)
        if parts.path.endswith("/guests/db"):
            row = {"vmid": 100, "name": "db", "node": "pve1", "type": "qemu", "status": "running"}
            return connection.respond(200, json.dumps({"data": row}))
        if not parts.path.endswith("/exec"):
            return connection.respond(500, "'' does not exist")
        requests.append(dict(parse_qsl(parts.query)))
        if requests[-1]["tty"] == "1":
            return connection.respond(500, json.dumps({"data": None, "message": REFUSED}))
        return None

    def run(connection):
        with contextlib.suppress(ConnectionClosed):
            assert connection.recv() == b"\x02"  # the end of the input comes at once
            connection.send(b"\x01done")
            connection.send(b"\x035")

    server = unix_serve(run, str(root / "run/api.sock"), compression=None, process_request=refuse)
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield requests
        server.shutdown()
        thread.join()


def in_terminal(root, *args: str, output: int | None = None) -> tuple[int, str]:
    """Run `exec` in a terminal of its own, its output in `output` when one is given."""
    pid, terminal = pty.fork()
    if pid == 0:
        if output is not None:
            os.dup2(output, 1)
        os.environ |= {"BASTIDE_ROOT": str(root)}
        os.execv(sys.executable, [sys.executable, "-m", "bastide", "exec", *args])
    found = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(terminal, 4096):
            found += data
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), found.decode()


def test_a_command_runs_without_a_terminal(root, asked):
    assert in_terminal(root, "db", "--", "uname", "-r") == (5, "done")
    assert [request["tty"] for request in asked] == ["1", "0"]


@pytest.mark.parametrize("args", [["db"], ["-t", "db", "top"]])
def test_a_terminal_that_is_wanted_is_refused_with_a_hint(root, asked, args):
    code, text = in_terminal(root, *args)
    assert code == 7
    assert "bastide console db" in text.replace("\r\n", " ")
    assert [request["tty"] for request in asked] == ["1"]


def test_what_could_be_typed_is_not_waited_for(root, asked):
    reader, writer = os.pipe()
    code, _ = in_terminal(root, "db", "true", output=writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert (code, file.read()) == (5, b"done")
    assert [request["tty"] for request in asked] == ["0"]
