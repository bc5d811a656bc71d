"""TLS to another machine: whose certificate is trusted, and what is said when it is not."""

import hashlib
import http.server
import socket
import ssl
import threading
from pathlib import Path

import pytest

from bastide.base.errors import AuthenticationFailed, InvalidParameter, NotFound
from bastide.base.layout import Layout
from bastide.client import connect
from bastide.client.errors import Unreachable
from bastide.client.http import Client
from bastide.client.transport import TlsTransport, UnixTransport
from bastide.host.certificate import ensure_certificate

TOKEN = "root@pam!ci=secret"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        known = self.headers["Authorization"] == f"PVEAPIToken={TOKEN}"
        body = b'{"data": {"who": "ci"}}' if known else b""
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def tls(tmp_path: Path):
    certificate, key = ensure_certificate(tmp_path, "pve1", ["127.0.0.1"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", certificate
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_unknown_certificate_is_refused_and_the_remedy_told(tls):
    with pytest.raises(AuthenticationFailed, match="BASTIDE_FINGERPRINT"):
        Client(TlsTransport(tls[0], TOKEN)).get("/version")


def test_the_fingerprint_decides(tls):
    der = ssl.PEM_cert_to_DER_cert(tls[1].read_text())
    fingerprint = hashlib.sha256(der).hexdigest()
    shown = ":".join(fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
    assert Client(TlsTransport(tls[0], TOKEN, fingerprint=shown)).get("/version") == {"who": "ci"}
    with pytest.raises(AuthenticationFailed, match="not 0000"):
        Client(TlsTransport(tls[0], TOKEN, fingerprint="00" * 32)).get("/version")


def test_a_file_of_authorities_decides(tls):
    assert Client(TlsTransport(tls[0], TOKEN, ca_file=str(tls[1]))).get("/version") == {"who": "ci"}


def test_a_wrong_token_is_an_authentication_failure(tls):
    with pytest.raises(AuthenticationFailed):
        Client(TlsTransport(tls[0], "root@pam!ci=wrong", ca_file=str(tls[1]))).get("/version")


def test_what_speaks_no_tls_is_told():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    with pytest.raises(Unreachable, match="TLS"):
        TlsTransport(f"https://127.0.0.1:{server.server_address[1]}", TOKEN).connect()
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("url", ["http://host", "ftp://host", "https://", ""])
def test_other_addresses_are_refused(url):
    with pytest.raises(InvalidParameter):
        TlsTransport(url, TOKEN)


def test_the_environment_chooses(tmp_path):
    assert isinstance(connect.transport(Layout(tmp_path), {}), UnixTransport)
    remote = connect.transport(Layout(), {"BASTIDE_API": "host", "BASTIDE_TOKEN": TOKEN})
    assert isinstance(remote, TlsTransport)
    assert remote.address == ("host", 8006)
    for token in ("", "root@pam", "root@pam!x=a\r\nX: y"):
        with pytest.raises(InvalidParameter):
            connect.transport(Layout(), {"BASTIDE_API": "host", "BASTIDE_TOKEN": token})


def test_a_refusal_in_the_middle_of_an_upload_is_told(tmp_path):
    """A server that answers before it has read all: the client must not hang, and must tell the answer."""
    path = tmp_path / "s"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def refuse():
        sock, _ = listener.accept()
        sock.recv(4096)
        body = b'{"message": "guest \'web\' does not exist"}'
        sock.sendall(b"HTTP/1.1 500 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(1 << 20):
            pass
        sock.close()

    thread = threading.Thread(target=refuse)
    thread.start()
    with pytest.raises(NotFound):
        Client(UnixTransport(path)).upload("/f", {"path": "/x"}, iter([b"x" * 100_000] * 20))
    thread.join()
    listener.close()
