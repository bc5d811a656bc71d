"""`exec` as a process of its own: streams, exit code, what it sends, and how little it imports."""

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from urllib.parse import parse_qsl, urlsplit

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import unix_serve

from bastide.cli.terminal import _Escape

COMMAND = [sys.executable, "-m", "bastide", "exec"]


@pytest.fixture
def guest(root):
    """A daemon whose guest runs `handler(connection, params)`; yields a function that sets it."""
    state = {}

    def handle(connection):
        state["path"] = urlsplit(connection.request.path).path
        state["params"] = parse_qsl(urlsplit(connection.request.path).query)
        with contextlib.suppress(ConnectionClosed):
            state["run"](connection)

    with unix_serve(handle, str(root / "run/api.sock"), compression=None, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield state
        server.shutdown()
        thread.join()


def execute(root, *args, **options):
    env = {**os.environ, "BASTIDE_ROOT": str(root)}
    env.pop("BASTIDE_API", None)
    return subprocess.run([*COMMAND, *args], env=env, capture_output=True, timeout=60, check=False, **options)


def test_streams_and_exit_code(root, guest):
    def run(connection):
        connection.send(b"\x01out")
        connection.send(b"\x02err")
        connection.send(b"\x0342")

    guest["run"] = run
    ended = execute(root, "--cwd", "/srv", "-e", "A=b c", "web", "--", "ls", "--json", "-l", input=b"")
    assert (ended.returncode, ended.stdout, ended.stderr) == (42, b"out", b"err")
    assert guest["path"] == "/api2/json/bastide/guests/web/exec"
    assert guest["params"] == [
        ("command", "ls"), ("command", "--json"), ("command", "-l"), ("env", "A=b c"), ("cwd", "/srv"), ("tty", "0"),
    ]  # fmt: skip


def test_input_goes_both_ways_at_once_without_a_deadlock(root, guest):
    def cat(connection):
        for message in connection:
            if message[:1] == b"\x02":
                break
            connection.send(b"\x01" + message[1:])
        connection.send(b"\x030")

    guest["run"] = cat
    data = os.urandom(8_000_000)
    ended = execute(root, "web", "cat", input=data)
    assert ended.returncode == 0
    assert ended.stdout == data


def test_a_connection_that_ends_without_an_exit_code_is_a_failure(root, guest):
    guest["run"] = lambda connection: connection.close(1011, "guest 100 is not running")
    ended = execute(root, "-n", "web", "true")
    assert ended.returncode == 6
    assert ended.stderr == b"error: guest 100 is not running\n"


def test_a_terminal_is_raw_told_its_size_and_restored(root, guest):
    events = []

    def run(connection):
        connection.send(b"\x01ready")
        for message in connection:
            events.append(message)
            if message == b"\x00\x03":  # Ctrl+c as a byte: the terminal is raw
                connection.send(b"\x01bye")
                connection.send(b"\x037")

    guest["run"] = run
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ |= {"BASTIDE_ROOT": str(root), "TERM": "xterm-test"}
        os.execv(COMMAND[0], [*COMMAND, "web", "sh"])

    def read_until(mark):
        found = b""
        while mark not in found:
            found += os.read(terminal, 1024)

    read_until(b"ready")
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 101, 0, 0))
    until = time.monotonic() + 10
    while b"\x01101:33" not in events and time.monotonic() < until:
        time.sleep(0.01)
    os.write(terminal, b"\x03")
    read_until(b"bye")
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 7
    assert b"\x01101:33" in events
    assert ("tty", "1") in guest["params"]
    assert ("env", "TERM=xterm-test") in guest["params"]
    assert termios.tcgetattr(terminal)[3] & termios.ICANON
    os.close(terminal)


@pytest.mark.parametrize(
    ("typed", "passed", "left"),
    [
        ([b"abc"], b"abc", False),
        ([b"\x01q"], b"", True),
        ([b"a\x01", b"q", b"never"], b"a", True),
        ([b"\x01\x01q"], b"\x01q", False),
        ([b"\x01x"], b"\x01x", False),
    ],
)
def test_the_escape_of_a_console(typed, passed, left):
    escape, found = _Escape(), b""
    for data in typed:
        sent, leave = escape.filter(data)
        found += sent
        if leave:
            break
    assert (found, leave) == (passed, left)


def test_exec_imports_nothing_heavy(root, guest):
    guest["run"] = lambda connection: connection.send(b"\x030")
    env = {**os.environ, "BASTIDE_ROOT": str(root)}
    argv = [sys.executable, "-X", "importtime", *COMMAND[1:], "web", "--", "true"]
    ended = subprocess.run(argv, env=env, capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False)
    assert ended.returncode == 0
    imported = {line.rpartition(b"|")[2].strip().decode() for line in ended.stderr.splitlines()}
    assert "bastide.cli.terminal" in imported  # what import_module is given is not listed, what that imports is
    heavy = {"rich", "pydantic", "httpx", "asyncio", "websockets", "ssl", "http.client", "email", "bastide.daemon"}
    assert not imported & heavy
    others = {name for name in imported if name.startswith("bastide.cli.")}
    assert not others & {"bastide.cli.guests", "bastide.cli.launch", "bastide.cli.progress", "bastide.cli.raw"}


def test_plain_lists_and_actions_need_no_pydantic(root, daemon):
    daemon.on("GET", "/cluster/resources", [])
    env = {**os.environ, "BASTIDE_ROOT": str(root)}
    argv = [sys.executable, "-X", "importtime", "-m", "bastide", "ls", "--json"]
    ended = subprocess.run(argv, env=env, capture_output=True, timeout=60, check=False)
    assert ended.stdout == b"[]\n"
    assert not {b"pydantic", b"rich", b"asyncio"} & {
        line.rpartition(b"|")[2].strip() for line in ended.stderr.splitlines()
    }


def test_a_reader_that_goes_away_is_no_error(root, daemon):
    daemon.on("GET", "/cluster/resources", [{"vmid": n, "name": "x", "status": "stopped"} for n in range(5000)])
    env = {**os.environ, "BASTIDE_ROOT": str(root)}
    argv = [sys.executable, "-m", "bastide", "ls", "--json"]
    with subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(1) == b"["
        process.stdout.close()
        assert process.stderr.read() == b""


def test_output_that_cannot_be_written_is_a_failure(root, daemon):
    daemon.on("GET", "/cluster/resources", [])
    env = {**os.environ, "BASTIDE_ROOT": str(root)}
    argv = [sys.executable, "-m", "bastide", "ls", "--json"]
    with open("/dev/full", "wb") as full:
        ended = subprocess.run(argv, env=env, stdout=full, stderr=subprocess.PIPE, timeout=60, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(b"error: ")
    assert ended.stderr.endswith(b"No space left on device\n")
    assert ended.stderr.count(b"\n") <= 2
