"""A client nobody here wrote: proxmoxer drives a real VM, tiny and without a disk."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from proxmoxer import ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection, connect

from framework import trust
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]

USER, PASSWORD = "ada@pve", secrets.token_urlsafe(16)


@dataclass
class Session:
    """A proxmoxer that logged in with a ticket, and the header that its consoles need."""

    host: Host
    pve: Any
    headers: dict[str, str]

    @property
    def node(self) -> Any:
        return self.pve.nodes(self.host.node)

    def done(self, upid: str) -> None:
        status = Tasks.blocking_status(self.pve, upid, timeout=120, polling_interval=0.1)
        log = Tasks.decode_log(self.node.tasks(upid).log.get())
        assert status is not None, "the task did not end"
        assert status["exitstatus"] == "OK", log

    @contextlib.contextmanager
    def opened(self, vmid: int, offer: dict[str, Any]) -> Iterator[ClientConnection]:
        """What `termproxy` or `vncproxy` offered."""
        query = urlencode({"port": offer["port"], "vncticket": offer["ticket"]})
        url = f"wss://127.0.0.1:{self.host.port}/api2/json/nodes/{self.host.node}/qemu/{vmid}/vncwebsocket?{query}"
        context = trust.anyone()
        with connect(
            url, ssl=context, additional_headers=self.headers, subprotocols=["binary"], proxy=None  # type: ignore[list-item]
        ) as socket:  # fmt: skip
            yield socket


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with pytest.MonkeyPatch.context() as patch, Host.launched(number=8) as host:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they defeat verify_ssl=False
            patch.delenv(name, raising=False)
        host.post("/access/users", userid=USER, password=PASSWORD)
        host.put("/access/acl", path="/", users=USER, roles="Administrator")
        pve = ProxmoxAPI("127.0.0.1", user=USER, password=PASSWORD, port=host.port, verify_ssl=False, timeout=60)
        ticket, _ = pve.get_tokens()
        yield Session(host, pve, {"Cookie": f"PVEAuthCookie={quote(ticket, safe='')}"})


def test_a_vms_life(session: Session) -> None:
    vmid, node = session.host.new_vmid(), session.node
    session.done(
        node.qemu.create(
            vmid=vmid, name="tiny", memory=64, cores=1, ostype="other", serial0="socket", agent="enabled=1",
            net0=f"virtio,bridge={session.host.bridge}", description="two\nlines", tags="b;a",
        )
    )  # fmt: skip
    vm = node.qemu(vmid)
    try:
        config = vm.config.get()
        assert (config["name"], config["description"], config["tags"]) == ("tiny", "two\nlines", "b;a")
        assert config["net0"].startswith("virtio=")
        vm.config.put(cores=2, digest=config["digest"])
        with pytest.raises(ResourceException) as refusal:
            vm.config.put(cores=3, digest=config["digest"])
        assert "modified configuration" in str(refusal.value)

        session.done(vm.status.start.post())
        current = vm.status.current.get()
        assert (current["status"], current["qmpstatus"], current["cpus"]) == ("running", "running", 2)
        assert [row["status"] for row in node.qemu.get() if row["vmid"] == vmid] == ["running"]
        with pytest.raises(ResourceException) as silent:
            vm.agent.ping.post()
        assert silent.value.status_code == 500
        assert "agent" in str(silent.value)

        look_at_the_screen(session, vmid)
        type_at_the_serial_port(session, vmid)
        assert "running" in vm.monitor.post(command="info status")
        with pytest.raises(ResourceException) as not_root:
            vm.monitor.post(command="quit")
        assert not_root.value.status_code == 403
        vm.sendkey.put(key="ctrl-alt-delete")
        for action, state in (("suspend", "paused"), ("resume", "running")):
            session.done(vm.status(action).post())
            assert vm.status.current.get()["qmpstatus"] == state
        session.done(vm.status.reset.post())
        session.done(vm.status.stop.post())
        assert vm.status.current.get()["status"] == "stopped"
    finally:
        with contextlib.suppress(ResourceException):
            Tasks.blocking_status(session.pve, vm.status.stop.post(), timeout=60)
        session.done(vm.delete(purge=1))
    with pytest.raises(ResourceException) as gone:
        vm.config.get()
    assert "does not exist" in str(gone.value)


def look_at_the_screen(session: Session, vmid: int) -> None:
    """Speak RFB 3.8 as far as the size of the screen (RFC 6143, 7.1 to 7.3), with and without a password."""
    vm = session.node.qemu(vmid)
    offer = vm.vncproxy.post(websocket=1)
    assert "BEGIN CERTIFICATE" in offer["cert"]
    with session.opened(vmid, offer) as socket:
        stream = Stream(socket)
        assert stream.read(12) == b"RFB 003.008\n"
        socket.send(b"RFB 003.008\n")
        kinds = stream.read(stream.read(1)[0])
        assert 1 in kinds, "no authentication: the ticket was it"
        socket.send(b"\x01")
        assert stream.read(4) == bytes(4)
        socket.send(b"\x01")
        head = stream.read(24)
        assert int.from_bytes(head[:2]) > 300, "the screen's width"
        assert stream.read(int.from_bytes(head[20:24]))
        with pytest.raises(InvalidStatus), session.opened(vmid, offer):
            pass
    offer = vm.vncproxy.post(**{"websocket": 1, "generate-password": 1})
    assert len(offer["password"]) == 8
    with session.opened(vmid, offer) as socket:
        stream = Stream(socket)
        assert stream.read(12) == b"RFB 003.008\n"
        socket.send(b"RFB 003.008\n")
        assert stream.read(stream.read(1)[0]) == b"\x02", "a password is asked"
    picture = session.host.http.get(f"/bastide/guests/{vmid}/screenshot")
    assert (picture.status_code, picture.content[:8]) == (200, b"\x89PNG\r\n\x1a\n")


def type_at_the_serial_port(session: Session, vmid: int) -> None:
    """The firmware has nothing to say there, but the terminal opens and what is typed is taken."""
    offer = session.node.qemu(vmid).termproxy.post()
    with session.opened(vmid, offer) as socket:
        socket.send(f"{offer['user']}:{offer['ticket']}\n".encode())
        assert socket.recv(timeout=10) in (b"OK", "OK")
        socket.send(b"1:80:24:")
        socket.send(b"0:1:\n")
        socket.send(b"2")
    deadline = time.monotonic() + 10
    while session.node.tasks(offer["upid"]).status.get()["status"] == "running":
        assert time.monotonic() < deadline, "the terminal's task goes on"
        time.sleep(0.1)


class Stream:
    """The bytes of a WebSocket, however they are framed."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._buffer = b""

    def read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._socket.recv(timeout=20)
            self._buffer += data if isinstance(data, bytes) else data.encode()
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found
