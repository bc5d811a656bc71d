"""A small daemon made of canned answers, on the socket of a layout in the test's folder."""

import http.server
import io
import json
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

from bastide.cli.main import main


class Refusal(Exception):
    """An answer that is an error: HTTP status, message, errors by parameter."""

    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        self.status, self.message, self.errors = status, message, errors or {}
        super().__init__(message)


class FakeDaemon:
    """Answers by method and path: data, a Refusal, or a function of the parameters. `calls` has every request."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.answers: dict[tuple[str, str], Any] = {
            ("GET", "/bastide/status"): {
                "node": "pve1", "version": "0.1", "port": 8006, "address": "192.0.2.5", "pid": 7, "bridge": "vmbr0",
            },
            ("GET", "/bastide/guests"): [],
            ("GET", "/bastide/images/buildable"): [{"name": "debian-12", "type": "lxc"}],
        }  # fmt: skip
        self.ends: dict[str, tuple[str, list[str]]] = {}

    def on(self, method: str, path: str, answer: Any) -> None:
        self.answers[method, path] = answer

    def guest(self, vmid: int, name: str, status: str = "stopped", kind: str = "lxc") -> None:
        row = {"vmid": vmid, "name": name, "node": "pve1", "type": kind, "status": status}
        for key in (name, str(vmid)):
            self.on("GET", f"/bastide/guests/{key}", row)

    def task(self, method: str, path: str, *, end: str = "OK", log: tuple[str, ...] = ()) -> str:
        """Let a call answer a task that ends so."""
        upid = f"UPID:pve1:00000001:00000002:{len(self.ends) + 1:08X}:vztask:100:root@pam:"
        self.on(method, path, upid)
        self.ends[upid] = (end, list(log))
        return upid

    def posted(self, method: str, path: str) -> dict[str, Any]:
        """The parameters of the last such call."""
        return next(params for verb, where, params in reversed(self.calls) if (verb, where) == (method, path))

    def made(self, method: str, path: str) -> bool:
        return any((verb, where) == (method, path) for verb, where, _ in self.calls)

    def answer(self, method: str, path: str, params: dict[str, Any]) -> Any:
        self.calls.append((method, path, params))
        head, _, last = path.rpartition("/")
        upid = head.rpartition("/")[2]
        if head == "/bastide/tasks" and last in self.ends:
            end, log = self.ends[last]
            lines = [{"n": n, "t": text} for n, text in enumerate(log, 1) if n > int(params["start"])]
            return {"upid": last, "status": "stopped", "exitstatus": end, "log": lines}
        if upid in self.ends and last in ("status", "log"):
            end, log = self.ends[upid]
            if last == "status":
                return {"upid": upid, "status": "stopped", "exitstatus": end}
            start = int(params.get("start", 0))
            return [{"n": n, "t": text} for n, text in enumerate(log, 1) if n > start]
        found = self.answers.get((method, path), Refusal(500, f"'{path}' does not exist"))
        if isinstance(found, Callable):
            found = found(params)
        if isinstance(found, Refusal):
            raise found
        return found


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        query = parse_qs(parts.query, keep_blank_values=True)
        body = self.rfile.read(length)
        if "multipart" in self.headers.get("Content-Type", ""):
            query["body"] = [body]
        elif self.headers.get("Content-Type") == "application/json":
            query |= {key: [value] for key, value in json.loads(body).items()}
        else:
            query |= parse_qs(body.decode(), keep_blank_values=True)
        params = {key: values[0] if len(values) == 1 else values for key, values in query.items()}
        path = unquote(parts.path).removeprefix("/api2/json")
        try:
            status, body = 200, {"data": self.server.daemon.answer(self.command, path, params)}
        except Refusal as refusal:
            status = refusal.status
            body = {"data": None, "message": refusal.message + "\n", "errors": refusal.errors}
        found = body["data"]
        content = found if isinstance(found, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        pass

    def address_string(self) -> str:
        return "unix"


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path


@pytest.fixture
def daemon(root: Path) -> Iterator[FakeDaemon]:
    server = _Server(str(root / "run/api.sock"), _Handler)
    server.daemon = FakeDaemon()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.daemon
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def run(root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run a command line against the layout in the test's folder."""
    monkeypatch.delenv("BASTIDE_API", raising=False)
    monkeypatch.setenv("BASTIDE_ROOT", str(root))
    monkeypatch.setenv("COLUMNS", "200")

    def invoke(*args: str, host: Any = None, text: str = "") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        with pytest.raises(SystemExit) as caught:
            main(list(args), host)
        captured = capsys.readouterr()
        return Ended(int(caught.value.code or 0), captured.out, captured.err)

    return invoke


@pytest.fixture
def refusal() -> type[Refusal]:
    """Makes answers that are errors."""
    return Refusal
