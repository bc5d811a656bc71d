"""`push` and `pull` against a server that streams: whole files, refusals, and a body that ends early."""

import socket
import threading

import pytest

STATUS = b'{"data": {"vmid": 100, "name": "web", "node": "pve1", "type": "lxc", "status": "running"}}'


@pytest.fixture
def streaming(root):
    """Answers the guest, then hands the next connection to `serve(head, socket)`; returns what to set."""
    state = {"heads": []}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "run/api.sock"))
    listener.listen()

    def read_head(sock):
        head = b""
        while b"\r\n\r\n" not in head:
            head += sock.recv(1)
        return head.decode()

    def work():
        for number in range(2):
            sock, _ = listener.accept()
            with sock:
                head = read_head(sock)
                state["heads"].append(head)
                if number == 0:
                    sock.sendall(
                        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(STATUS) + STATUS
                    )
                else:
                    state["serve"](head, sock)

    thread = threading.Thread(target=work)
    thread.start()
    yield state
    thread.join(10)
    assert not thread.is_alive()
    listener.close()


def receive(sock, count):
    found = b""
    while len(found) < count:
        found += sock.recv(1 << 20)
    return found


def test_push_sends_the_file_its_size_and_its_mode(run, streaming, tmp_path):
    got = {}

    def serve(head, sock):
        got["body"] = receive(sock, 1_000_000)
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + b'{"data": {}}')

    streaming["serve"] = serve
    source = tmp_path / "tool"
    source.write_bytes(bytes(range(250)) * 4000)
    source.chmod(0o750)
    assert run("push", str(source), "web:/usr/local/bin/").code == 0
    assert got["body"] == source.read_bytes()
    head = streaming["heads"][1]
    assert head.startswith("PUT /api2/json/bastide/guests/100/file?path=%2Fusr%2Flocal%2Fbin%2Ftool&mode=0750 ")
    assert "Content-Length: 1000000" in head


def test_pull_writes_the_file_whole(run, streaming, tmp_path, monkeypatch):
    streaming["serve"] = lambda _, sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n")
    monkeypatch.chdir(tmp_path)
    assert run("pull", "web:/etc/motd").code == 0
    assert (tmp_path / "motd").read_bytes() == b"hello\n"


def test_half_a_file_is_no_file(run, streaming, tmp_path):
    streaming["serve"] = lambda _, sock: sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\nhello\n")
    ended = run("pull", "web:/etc/motd", str(tmp_path / "x"))
    assert ended.code == 5
    assert "after 6 of 600 bytes" in ended.err
    assert not list(tmp_path.glob("*x*"))


def test_a_file_that_is_there_is_kept(run, daemon, tmp_path):
    daemon.guest(100, "web", "running")
    (tmp_path / "x").write_text("mine")
    ended = run("pull", "web:/etc/motd", str(tmp_path / "x"))
    assert (ended.code, (tmp_path / "x").read_text()) == (6, "mine")


@pytest.mark.parametrize("target", ["web", "web:relative", ":/x", "/x"])
def test_a_place_is_a_guest_and_an_absolute_path(run, daemon, target):
    assert run("push", "/etc/hostname", target).code == 2


def test_folders_are_told_how(run, daemon):
    daemon.guest(100, "web", "running")
    ended = run("push", "/etc", "web:/x")
    assert ended.code == 2
    assert "tar -C /etc -c ." in ended.err
