"""Commands, terminals, consoles and files of a real container, through WebSockets as a raw client speaks them."""

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from bastide.host import processes
from framework import trust
from framework.host import ApiFailure, Host
from framework.sockets import execute, opened

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def box(host: Host) -> int:
    """A running container."""
    vmid = host.create(start=True, hostname="box", memory=512)
    host.wait_booted(vmid)
    return vmid


def read_until(ws: ClientConnection, text: bytes, seconds: float = 20, *, head: int = 1) -> bytes:
    """Read output until a text stands in it."""
    received = b""
    deadline = time.monotonic() + seconds
    while text not in received:
        received += ws.recv(timeout=max(0.01, deadline - time.monotonic()))[head:]
    return received


def test_streams_exit_codes_environment_and_folder(host: Host, box: int) -> None:
    assert execute(host, "box", "sh", "-c", "echo out; echo err >&2; exit 42") == (42, b"out\n", b"err\n")
    code, out, _ = execute(host, box, "sh", "-c", "pwd; echo $A; echo $HOME", cwd="/usr/share", env="A=b c;$(id)")
    assert (code, out) == (0, b"/usr/share\nb c;$(id)\n/root\n")
    assert execute(host, box, "sh", "-c", "kill -9 $$")[0] == 137
    code, _, err = execute(host, box, "/no/such/program")
    assert code in (126, 127)
    assert b"no/such/program" in err


def test_fifty_megabytes_both_ways(host: Host, box: int) -> None:
    data = os.urandom(1 << 20) * 50
    code, out, _ = execute(host, box, "cat", data=data)
    assert code == 0
    assert hashlib.sha256(out).digest() == hashlib.sha256(data).digest()


def test_a_client_that_does_not_read_is_not_buffered_for(host: Host, box: int) -> None:
    pid = host.process.pid
    before = _rss(pid)
    with opened(host, f"/bastide/guests/{box}/exec", [("command", "yes")], max_queue=1, close_timeout=0.2) as ws:
        ws.recv(timeout=10)
        time.sleep(2)
        grown = _rss(pid) - before
    assert grown < 20 << 20


def test_a_client_that_goes_ends_its_command(host: Host, box: int) -> None:
    with opened(host, f"/bastide/guests/{box}/exec", [("command", w) for w in ("sh", "-c", "sleep 4711; true")]) as ws:
        _wait(lambda: _inside(host, box, "sleep 4711"))
        ws.close()
    _wait(lambda: not _inside(host, box, "sleep 4711"))


def test_a_terminal_has_the_asked_size_and_follows_it(host: Host, box: int) -> None:
    params = [("command", "sh"), ("tty", 1), ("cols", 123), ("rows", 45)]
    with opened(host, f"/bastide/guests/{box}/exec", params) as ws:
        ws.send(b"\0stty size; tty\n")
        assert b"/dev/pts/" in read_until(ws, b"/dev/pts/")
        ws.send(b"\0stty size\n")
        read_until(ws, b"45 123")
        ws.send(b"\x01" + b"90:30")
        time.sleep(0.3)
        ws.send(b"\0stty size\n")
        read_until(ws, b"30 90")
        ws.send(b"\0exit 9\n")
        frames = list(ws)
        assert frames[-1] == b"\x039"


def test_the_console_asks_who_is_there(host: Host, box: int) -> None:
    for tty in (0, 1, 2):
        with opened(host, f"/bastide/guests/{box}/console", [("tty", tty), ("cols", 100), ("rows", 30)]) as ws:
            ws.send(b"\0\n")
            assert b"box login:" in read_until(ws, b"login:")


def test_what_may_not_be_run_is_refused_before_it_begins(host: Host, box: int) -> None:
    stopped = host.create(hostname="stopped")
    for path, params, status in (
        (f"/bastide/guests/{stopped}/exec", [("command", "true")], 500),
        ("/bastide/guests/999999999/exec", [("command", "true")], 500),
        (f"/bastide/guests/{box}/exec", [], 400),
        (f"/bastide/guests/{box}/exec", [("command", "true"), ("env", "=x")], 400),
        (f"/bastide/guests/{stopped}/console", [], 500),
    ):
        with pytest.raises(InvalidStatus) as caught:
            opened(host, path, params).close()
        assert caught.value.response.status_code in (status, 404), path
    host.wait(host.delete(host.path(stopped)))


def test_a_page_of_another_site_gets_nothing(host: Host, box: int) -> None:
    token = host.post("/access/users/root@pam/token/consoles", privsep=0)
    headers = {"Authorization": f"PVEAPIToken={token['full-tokenid']}={token['value']}"}
    context = trust.anyone()
    url = f"wss://127.0.0.1:{host.port}/api2/json/bastide/guests/{box}/exec?command=hostname"
    try:
        for origin in (None, f"https://127.0.0.1:{host.port}"):
            with connect(url, ssl=context, origin=origin, additional_headers=headers, compression=None) as ws:
                assert ws.recv(timeout=10) == b"\x01box\n"
        with pytest.raises(InvalidStatus) as caught:
            connect(url, ssl=context, origin="https://evil.test", additional_headers=headers).close()
        assert caught.value.response.status_code == 403
        with pytest.raises(InvalidStatus) as caught:
            connect(url, ssl=context).close()
        assert caught.value.response.status_code == 401
    finally:
        host.delete("/access/users/root@pam/token/consoles")


@pytest.fixture
def offer(host: Host, box: int) -> Iterator[dict]:
    """A terminal that is offered; its task is stopped afterwards."""
    made = host.post(host.path(box, "/termproxy"))
    yield made
    with contextlib.suppress(ApiFailure):
        host.delete(f"/nodes/{host.node}/tasks/{made['upid']}")


def browser(host: Host, vmid: int, offer: dict, **changes) -> ClientConnection:
    """A browser's terminal."""
    values = {"port": offer["port"], "vncticket": offer["ticket"], **changes}
    path = f"/nodes/{host.node}/lxc/{vmid}/vncwebsocket"
    return opened(host, path, list(values.items()), subprotocols=["binary"])


def test_a_terminal_in_the_browser(host: Host, box: int, offer: dict) -> None:
    assert set(offer) == {"port", "ticket", "user", "upid"}
    assert host.get(f"/nodes/{host.node}/tasks/{offer['upid']}/status")["status"] == "running"
    with browser(host, box, offer) as ws:
        assert ws.subprotocol == "binary"
        ws.send(f"{offer['user']}:{offer['ticket']}\n")
        assert ws.recv(timeout=10) == b"OK"
        ws.send("1:132:50:")
        ws.send("0:1:\n")
        read_until(ws, b"login:", head=0)
        ws.send("2")
        ws.send("0:5:")
        ws.send("nobo\n")  # cut anywhere
        read_until(ws, b"assword:", head=0)
    _wait(lambda: host.get(f"/nodes/{host.node}/tasks/{offer['upid']}/status").get("exitstatus") == "OK")


def test_a_ticket_is_for_one_use_one_guest_and_one_port(host: Host, box: int, offer: dict) -> None:
    other = host.create(start=True, hostname="other")
    for vmid, changes in ((other, {}), (box, {"vncticket": offer["ticket"][:-2] + "AA"})):
        with pytest.raises(InvalidStatus) as caught:
            browser(host, vmid, offer, **changes).close()
        assert caught.value.response.status_code in (401, 403)
    host.wait(host.delete(host.path(other), force=1))
    fresh = host.post(host.path(box, "/termproxy"))
    with pytest.raises(InvalidStatus):
        browser(host, box, fresh, port=fresh["port"] + 1).close()
    fresh = host.post(host.path(box, "/termproxy"))
    with browser(host, box, fresh) as ws:
        ws.send(f"{fresh['user']}:{fresh['ticket']}\n")
        assert ws.recv(timeout=10) == b"OK"
        with pytest.raises(InvalidStatus):
            browser(host, box, fresh).close()


def test_the_shell_mode_needs_no_password(host: Host, box: int) -> None:
    host.put(host.path(box, "/config"), cmode="shell")
    try:
        offer = host.post(host.path(box, "/termproxy"))
        with browser(host, box, offer) as ws:
            ws.send(f"{offer['user']}:{offer['ticket']}\n1:100:40:0:12:id -u; tty\n\n")
            assert ws.recv(timeout=10) == b"OK"
            read_until(ws, b"0\r\n/dev/pts", head=0)
    finally:
        host.put(host.path(box, "/config"), delete="cmode")


def test_vnc_terminals_are_said_not_to_be_there(host: Host, box: int) -> None:
    with pytest.raises(ApiFailure) as caught:
        host.post(host.path(box, "/vncproxy"))
    assert caught.value.status == 501


def put(host: Host, vmid: int, path: str, body: bytes | Iterator[bytes], **params) -> httpx.Response:
    """Write a file."""
    return host.http.put(f"/bastide/guests/{vmid}/file", params={"path": path, **params}, content=body)


def test_files_go_in_and_out(host: Host, box: int) -> None:
    data = os.urandom(1 << 20) * 20
    answer = put(host, box, "/root/a file", data, mode="0640", uid=33, gid=34)
    assert answer.status_code == 200, answer.text
    assert execute(host, box, "stat", "-c", "%a %u %g %s", "/root/a file")[1] == b"640 33 34 20971520\n"
    got = host.http.get(f"/bastide/guests/{box}/file", params={"path": "/root/a file"})
    assert hashlib.sha256(got.content).digest() == hashlib.sha256(data).digest()
    assert (got.headers["x-bastide-mode"], got.headers["x-bastide-uid"]) == ("0640", "33")
    folder = "/home/user"
    execute(host, box, "sh", "-c", f"mkdir -p {folder}; chown 1000:1000 {folder}; chmod 700 {folder}")
    assert put(host, box, f"{folder}/f", b"x").status_code == 200
    assert put(host, box, "/run/f", b"in tmpfs").status_code == 200
    assert execute(host, box, "cat", "/run/f")[1] == b"in tmpfs"


def test_links_devices_and_the_kernels_files_are_refused(host: Host, box: int) -> None:
    canary = host.root / "canary"
    canary.write_text("secret")
    before = canary.stat()
    execute(
        host, box, "sh", "-c", f"ln -s {canary} /root/link; ln -s / /root/root; mkfifo /root/fifo; ln -s /etc/motd /m"
    )
    kernel = ["/proc/1/environ", "/proc/sys/kernel/hostname", "/sys/kernel/uevent_helper"]
    outside = [f"/root/root{canary}", f"/root/../../../..{canary}", "/root/link"]
    for path in (*outside, *kernel, "/root/fifo", "/dev/null", "/dev/zero", "/root"):
        got = host.http.get(f"/bastide/guests/{box}/file", params={"path": path}, timeout=20)
        assert got.status_code != 200, path
        assert b"secret" not in got.content
        if path != "/root/link":
            assert put(host, box, path, b"x").status_code != 200, path
    assert put(host, box, "/m", b"hello\n").status_code == 200
    assert execute(host, box, "cat", "/etc/motd")[1] == b"hello\n"
    assert canary.stat() == before


def test_a_broken_off_upload_leaves_nothing(host: Host, box: int) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"x" * (1 << 20)
        raise ConnectionAbortedError

    with pytest.raises((ConnectionAbortedError, httpx.TransportError)):
        put(host, box, "/srv/upload", breaks())
    _wait(lambda: execute(host, box, "ls", "-A", "/srv")[1] == b"")


def test_a_stopped_guests_files_are_reached_too(host: Host) -> None:
    vmid = host.create(hostname="still")
    assert put(host, vmid, "/root/f", b"x", mode="600").status_code == 200
    assert host.http.get(f"/bastide/guests/{vmid}/file", params={"path": "/etc/os-release"}).status_code == 200
    host.act(vmid, "start")
    assert execute(host, vmid, "stat", "-c", "%a %u", "/root/f")[1] == b"600 0\n"
    host.wait(host.delete(host.path(vmid), force=1))


def test_the_command_line_pushes_and_pulls(host: Host, box: int, tmp_path) -> None:
    source = tmp_path / "f"
    source.write_bytes(os.urandom(100_000))
    host.cli("push", str(source), "box:/root/pushed")
    host.cli("pull", "box:/root/pushed", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == source.read_bytes()
    done = host.cli("exec", "box", "--", "sh", "-c", "cat; exit 3", check=False, input="through\n")
    assert (done.stdout, done.returncode) == ("through\n", 3)


def test_no_process_is_left_behind(host: Host, box: int) -> None:
    execute(host, box, "true")
    _wait(lambda: {processes.command(pid) for pid in processes.children(host.process.pid)} <= {"lxcfs", "bastide-web"})


def _inside(host: Host, vmid: int, text: str) -> bool:
    return text in execute(host, vmid, "ps", "-eo", "args")[1].decode().replace(f"sh -c {text}", "")


def _rss(pid: int) -> int:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _wait(condition, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
