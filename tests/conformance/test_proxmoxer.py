"""A client nobody here wrote: proxmoxer drives a real container, logged in with a ticket and with an API token."""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pyotp
import pytest
from proxmoxer import AuthenticationError, ProxmoxAPI, ResourceException
from proxmoxer.tools import Tasks
from websockets.sync.client import ClientConnection, connect

from framework import trust
from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.filterwarnings("ignore:Unverified HTTPS")]

USER, PASSWORD = "ada@pve", secrets.token_urlsafe(16)


@dataclass
class Session:
    """A logged-in proxmoxer, and the headers its login is made of, for consoles."""

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


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with pytest.MonkeyPatch.context() as patch, Host.launched(number=7) as host:
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # they defeat verify_ssl=False
            patch.delenv(name, raising=False)
        host.post("/access/users", userid=USER, password=PASSWORD)
        host.put("/access/acl", path="/", users=USER, roles="Administrator")
        yield host


@pytest.fixture(params=["ticket", "token"])
def session(host: Host, request: pytest.FixtureRequest) -> Session:
    where = {"port": host.port, "verify_ssl": False, "timeout": 60}
    if request.param == "ticket":
        pve = ProxmoxAPI("127.0.0.1", user=USER, password=PASSWORD, **where)
        ticket, _ = pve.get_tokens()
        return Session(host, pve, {"Cookie": f"PVEAuthCookie={quote(ticket, safe='')}"})
    name = f"t{secrets.token_hex(4)}"
    value = host.post(f"/access/users/{USER}/token/{name}", privsep=0)["value"]
    pve = ProxmoxAPI("127.0.0.1", user=USER, token_name=name, token_value=value, **where)
    return Session(host, pve, {"Authorization": f"PVEAPIToken={USER}!{name}={value}"})


def test_a_login_with_a_second_factor(host: Host) -> None:
    user, app = "twice@pve", pyotp.TOTP(pyotp.random_base32())
    host.post("/access/users", userid=user, password=PASSWORD)
    uri = app.provisioning_uri(name=user)
    host.post(f"/access/tfa/{user}", type="totp", totp=uri, value=app.now())
    where = {"port": host.port, "verify_ssl": False, "timeout": 60, "user": user, "password": PASSWORD}
    early = app.at(int(time.time()) + 30)  # the present code is spent by the registration
    try:
        pve = ProxmoxAPI("127.0.0.1", otp=early, **where)
        assert len(pve.access.tfa(user).post(type="recovery", password=PASSWORD)["recovery"]) == 10
        assert [entry["type"] for entry in pve.access.tfa(user).get()] == ["totp", "recovery"]
        pve.access.tfa(user)("recovery").delete(password=PASSWORD)
        assert [entry["type"] for entry in pve.access.tfa.get()[0]["entries"]] == ["totp"]
        with pytest.raises((AuthenticationError, ValueError)):  # it looks for JSON in a refusal, which has no body
            ProxmoxAPI("127.0.0.1", otp=early, **where)
    finally:
        host.delete(f"/access/users/{user}")


def test_a_containers_life(session: Session) -> None:
    host, node = session.host, session.node
    assert float(session.pve.version.get()["release"]) >= 9
    vmid = host.new_vmid()
    assert session.pve.cluster.nextid.get(vmid=vmid) == str(vmid)
    session.done(
        node.lxc.create(
            vmid=vmid, ostemplate=host.template(), hostname="prox", unprivileged=1, memory=256, swap=0,
            net0=f"name=eth0,bridge={host.bridge},ip=dhcp", description="two\nlines", tags="b;a",
        )
    )  # fmt: skip
    guest = node.lxc(vmid)
    try:
        session.done(guest.status.start.post())
        assert guest.status.current.get()["status"] == "running"
        host.wait_booted(vmid)
        assert "uid=0(root)" in run_in_terminal(session, vmid, "id")

        config = guest.config.get()
        assert (config["description"], config["hostname"]) == ("two\nlines", "prox")
        guest.config.put(memory=300, digest=config["digest"])
        assert guest.config.get()["memory"] == 300
        with pytest.raises(ResourceException) as refusal:
            guest.config.put(memory=400, digest=config["digest"])
        assert "modified configuration" in str(refusal.value)

        rows = session.pve.cluster.resources.get(type="vm")
        assert [row["status"] for row in rows if row["vmid"] == vmid] == ["running"]
        session.done(guest.status.shutdown.post(timeout=60, forceStop=1))
        assert guest.status.current.get()["status"] == "stopped"
        session.done(guest.resize.put(disk="rootfs", size="+1G"))
        assert "size=5G" in guest.config.get()["rootfs"]
    finally:
        session.done(guest.delete(force=1, purge=1))
    with pytest.raises(ResourceException) as gone:
        guest.config.get()
    assert gone.value.status_code == 500
    assert "does not exist" in str(gone.value)


def test_errors_as_proxmoxer_shows_them(session: Session) -> None:
    with pytest.raises(ResourceException) as bad:
        session.node.lxc.create(vmid=5, ostemplate="x", memory="much")
    assert bad.value.status_code == 400
    assert bad.value.content == "Parameter verification failed.", "the reason phrase"
    assert set(bad.value.errors) == {"vmid", "ostemplate", "memory"}
    with pytest.raises(ResourceException) as absent:
        session.node.sdn.get()
    assert absent.value.status_code == 501
    assert "not implemented" in str(absent.value)


def test_wrong_credentials(host: Host) -> None:
    with pytest.raises(AuthenticationError):
        ProxmoxAPI("127.0.0.1", port=host.port, user=USER, password="wrong", verify_ssl=False, timeout=60)
    token = ProxmoxAPI(
        "127.0.0.1", port=host.port, user=USER, token_name="none", token_value="x", verify_ssl=False, timeout=60
    )
    with pytest.raises(ResourceException) as refusal:
        token.version.get()
    assert refusal.value.status_code == 401


def run_in_terminal(session: Session, vmid: int, command: str) -> str:
    """Type a command into the container's terminal as the browser does (termproxy, vncwebsocket); what it shows."""
    offer = session.node.lxc(vmid).termproxy.post()
    query = urlencode({"port": offer["port"], "vncticket": offer["ticket"]})
    url = f"wss://127.0.0.1:{session.host.port}/api2/json/nodes/{session.host.node}/lxc/{vmid}/vncwebsocket?{query}"
    context = trust.anyone()
    with connect(url, ssl=context, additional_headers=session.headers, subprotocols=["binary"], proxy=None) as socket:  # type: ignore[arg-type,list-item]
        socket.send(f"{offer['user']}:{offer['ticket']}\n".encode())
        assert socket.recv(timeout=10) in (b"OK", "OK")
        socket.send(b"1:80:24:")
        shown = read_until(socket, "login:", b"\n")
        assert "login:" in shown, shown
        return _as_root_through_login(session, vmid, socket, command)


def _as_root_through_login(session: Session, vmid: int, socket: ClientConnection, command: str) -> str:
    password = secrets.token_hex(8)
    session.host.cli("exec", str(vmid), "--", "chpasswd", input=f"root:{password}\n")
    for line, expected in (("root", "assword:"), (password, "#"), (command, "uid=")):
        typed = f"{line}\n".encode()
        socket.send(b"0:%d:%s" % (len(typed), typed))
        shown = read_until(socket, expected)
        assert expected in shown, shown
    return shown


def read_until(socket: ClientConnection, text: str, nudge: bytes = b"") -> str:
    """What the terminal shows until the text comes, or 30 seconds are over; `nudge` is typed first."""
    shown, end = "", time.monotonic() + 30
    if nudge:
        socket.send(b"0:%d:%s" % (len(nudge), nudge))
    while text not in shown and time.monotonic() < end:
        with contextlib.suppress(TimeoutError):
            data = socket.recv(timeout=1)
            shown += data if isinstance(data, str) else data.decode("utf-8", "replace")
    return shown
