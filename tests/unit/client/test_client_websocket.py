"""Our WebSocket client against another implementation's server, and against what no server should send."""

import contextlib
import os
import select
import socket
import threading
from pathlib import Path

import pytest
from websockets.sync.server import unix_serve

from bastide.base.errors import NotFound
from bastide.client.errors import Unreachable
from bastide.client.transport import UnixTransport
from bastide.client.websocket import WebSocket, connect


@contextlib.contextmanager
def serving(path: Path, handler, **options):
    with unix_serve(handler, str(path), compression=None, max_size=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield UnixTransport(path)
        finally:
            server.shutdown()
            thread.join()


def receive(ws: WebSocket, count: int, deadline: float = 10) -> bytes:
    """Messages until `count` bytes are there or the connection ends."""
    found = b"".join(ws.messages())  # what came together with the handshake makes no socket readable
    while len(found) < count and not ws.closed:
        readable, writable, _ = select.select([ws.sock], [ws.sock] if ws.unsent else [], [], deadline)
        assert readable or writable, "nothing came"
        if writable:
            ws.flush()
        if readable:
            found += b"".join(ws.receive())
    return found


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 3_000_000])
def test_messages_of_every_length_form_come_back_unchanged(tmp_path, size):
    def echo(connection):
        for message in connection:
            connection.send(message)
            connection.send(b"end")

    data = os.urandom(size)
    with serving(tmp_path / "s", echo) as transport:
        ws = connect(transport, "/echo", [])
        ws.send(data)
        assert receive(ws, size + 3) == data + b"end"
        ws.close()


def test_a_ping_is_answered_and_the_reason_of_the_end_is_known(tmp_path):
    def ping_then_close(connection):
        assert connection.ping().wait(10)
        connection.close(1011, "guest 100 does not exist")

    with serving(tmp_path / "s", ping_then_close) as transport:
        ws = connect(transport, "/x", [])
        assert receive(ws, 1) == b""
        assert ws.closed
        assert ws.reason == "guest 100 does not exist"
        ws.close()


def test_the_target_carries_the_parameters_and_repeats_keys(tmp_path):
    seen = []

    def note(connection):
        seen.append(connection.request.path)

    with serving(tmp_path / "s", note) as transport:
        connect(transport, "/exec", [("command", "a b"), ("command", "c&d"), ("tty", "0")]).close()
    assert seen == ["/api2/json/exec?command=a+b&command=c%26d&tty=0"]


def test_a_refusal_is_the_error_of_the_tree(tmp_path):
    def refuse(connection, _request):
        return connection.respond(500, '{"data":null,"message":"guest \'web\' does not exist\\n"}')

    with (
        serving(tmp_path / "s", lambda _: None, process_request=refuse) as transport,
        pytest.raises(NotFound) as caught,
    ):
        connect(transport, "/x", [])
    assert str(caught.value) == "guest 'web' does not exist"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: wrong\r\n\r\n",
        b"HTTP/1.1 101\r\n" + b"x: y\r\n" * 40000,
    ],
)
def test_what_is_no_websocket_server_is_told_apart(answer):
    ours, theirs = socket.socketpair()

    class Fixed:
        host, headers = "x", {}

        def connect(self):
            return ours

    def answer_and_close():
        theirs.recv(4096)
        with contextlib.suppress(BrokenPipeError):
            theirs.sendall(answer)
        theirs.close()

    thread = threading.Thread(target=answer_and_close)
    thread.start()
    with pytest.raises(Unreachable):
        connect(Fixed(), "/x", [])
    thread.join()


def test_an_endless_frame_is_refused():
    ours, theirs = socket.socketpair()
    ws = WebSocket(ours)
    theirs.sendall(b"\x82\x7f" + (1 << 40).to_bytes(8, "big"))
    with pytest.raises(Unreachable, match="too long"):
        ws.receive()
    theirs.close()
    ws.close()


def test_sending_never_blocks_while_the_other_side_does_not_read():
    ours, theirs = socket.socketpair()
    ws = WebSocket(ours)
    ws.send(b"x" * 4_000_000)
    assert ws.unsent > 0
    drained = 0
    while ws.unsent:
        drained += len(theirs.recv(1 << 20))
        ws.flush()
    assert drained + len(theirs.recv(1 << 20, socket.MSG_DONTWAIT)) <= 4_000_014
    theirs.close()
    ws.close()
