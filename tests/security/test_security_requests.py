"""Requests that want more than they may: in process, over the fakes.

Attack classes 14 (others' volumes), 17 (other sites), 20 (addresses of the host's own), 27 (what a reused vmid
inherits).
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bastide.api.branches import routes
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

LXC = "/nodes/pve/lxc"
NET = "name=eth0,bridge=vmbr0"


async def make(api: Api, vmid: int = 100, **options: Any) -> None:
    upid = await api.data("POST", LXC, vmid=vmid, ostemplate=TEMPLATE, unprivileged=1, **options)
    assert await api.wait(upid) == "OK"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


STOLEN = "local:100/vm-100-disk-0.subvol"
THEFTS = [
    {"mp0": f"{STOLEN},mp=/mnt"},
    {"unused0": STOLEN},
    {"rootfs": STOLEN},
    {"mp0": f"volume={STOLEN},mp=/mnt,ro=1"},
    {"mp0": "local:100/../100/vm-100-disk-0.subvol,mp=/mnt"},
    {"mp0": "local:101/vm-100-disk-0.subvol,mp=/mnt"},
    {"mp0": "/var,mp=/mnt"},
    {"mp0": "volume=/var,mp=/mnt"},
    {"rootfs": "/"},
]


@pytest.mark.parametrize("options", THEFTS, ids=str)
@pytest.mark.parametrize("privsep", [0, 1])
async def test_no_way_leads_to_anothers_volume(api: Api, options: dict[str, str], privsep: int) -> None:
    """ATTACKS 14. Without `_check_existing` of `operations/volumes.py` and `check_volume` of the API this fails."""
    await make(api, 100, rootfs="local:0")
    await make(api, 101, rootfs="local:0")
    user = await api.token(grants={"/vms/101": "PVEVMAdmin", "/vms/102": "PVEVMAdmin", "/storage": "PVEDatastoreUser",
                                   "/sdn": "PVESDNUser"}, privsep=privsep)  # fmt: skip
    if privsep:
        for path in ("/vms/101", "/vms/102"):
            await api.data("PUT", "/access/acl", path=path, tokens="ada@pve!t", roles="PVEVMAdmin")
        await api.data("PUT", "/access/acl", path="/storage", tokens="ada@pve!t", roles="PVEDatastoreUser")
    before = await api.data("GET", f"{LXC}/101/config")
    changed = await call(user, "PUT", f"{LXC}/101/config", **options)
    made = await call(user, "POST", LXC, vmid=102, ostemplate=TEMPLATE, unprivileged="1", **options)
    assert {changed.status_code, made.status_code} <= {400, 403, 500}, (changed.text, made.text)
    assert await api.data("GET", f"{LXC}/101/config") == before
    assert [row["vmid"] for row in await api.data("GET", LXC)] == [100, 101]


async def test_what_a_guest_names_is_not_deleted_with_it(api: Api) -> None:
    """Not even by root: what `unused` names goes when its guest does."""
    await make(api, 100, rootfs="local:0")
    volume = api.services.rooms.layout.local_storage / "images/100/vm-100-disk-0.subvol"
    assert volume.is_dir()
    await make(api, 101, rootfs="local:0")
    for name in (STOLEN, TEMPLATE, "local:1", "local:101/vm-101-disk-7.subvol"):
        answer = await call(api.root, "PUT", f"{LXC}/101/config", unused0=name)
        assert answer.status_code in (400, 500), (name, answer.text)
        assert "unused0" not in await api.data("GET", f"{LXC}/101/config")
    assert await api.wait(await api.data("DELETE", f"{LXC}/101")) == "OK"
    assert volume.is_dir()


async def test_anothers_volume_is_not_reached_by_the_storage(api: Api) -> None:
    """ATTACKS 14. Without `check_volume` of `api/volume_permissions.py`, and a guest being named, this fails."""
    await make(api, 100, rootfs="local:0")
    volume = api.services.rooms.layout.local_storage / "images/100/vm-100-disk-0.subvol"
    user = await api.token(grants={"/vms/101": "PVEVMAdmin", "/storage": "PVEDatastoreUser"})
    path = f"/nodes/pve/storage/local/content/{STOLEN}"
    for method in ("DELETE", "PUT", "GET"):
        answer = await call(user, method, path)
        assert answer.status_code in (403, 500), answer.text
        assert not answer.json()["data"]
    assert volume.is_dir()


async def test_a_reused_vmid_inherits_nothing(api: Api) -> None:
    """ATTACKS 27. Without `grants.forget` in `operations/destroy.py` the next guest has the last one's grants."""
    await make(api, hostname="first", tags="old")
    await api.data("POST", "/pools", poolid="team")
    await api.data("PUT", "/pools", poolid="team", vms="100")
    user = await api.token(grants={"/pool/team": "PVEVMAdmin", "/vms/100": "PVEVMAdmin"})
    await api.data("PUT", "/access/acl", path="/vms/100", tokens="ada@pve!t", roles="PVEVMAdmin")
    assert (await user.get(f"{LXC}/100/config")).status_code == 200
    await api.wait(await api.data("DELETE", f"{LXC}/100"))
    await make(api, hostname="second")
    assert (await user.get(f"{LXC}/100/config")).status_code == 403
    assert (await api.data("GET", "/pools", poolid="team"))[0]["members"] == []
    assert "/vms/100" not in {row["path"] for row in await api.data("GET", "/access/acl")}
    shown = await api.data("GET", f"{LXC}/100/config")
    assert (shown["hostname"], "tags" in shown) == ("second", False)


SITES = ["https://evil.test", "null", "https://pve:8006.evil.test", "https://pve", "http://pve:80", "https://x@pve.evil",
         "https://pve:8006@evil.test", "file://", ""]  # fmt: skip


@pytest.mark.parametrize("site", SITES)
async def test_no_websocket_opens_for_another_site(api: Api, site: str) -> None:
    await make(api)
    user = await api.token(grants={"/": "Administrator"})
    found = [route for route in routes() if route.websocket]
    assert len(found) >= 3
    for route in found:
        path = route.path.replace("{node}", "pve").replace("{vmid}", "100").replace("{guest}", "100")
        for query in (b"", b"command=true", b"port=5900&vncticket=x"):
            assert await handshake(api, path, query, site, user.headers["Authorization"]) == 403, route.path


async def handshake(api: Api, path: str, query: bytes, origin: str, authorization: str) -> int:
    """The status that a WebSocket's handshake is answered with; 101 when it opens."""
    sent: list[Any] = []
    asked: asyncio.Queue[Any] = asyncio.Queue()
    asked.put_nowait({"type": "websocket.connect"})
    asked.put_nowait({"type": "websocket.disconnect", "code": 1001})

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"pve:8006"), (b"origin", origin.encode()), (b"authorization", authorization.encode())]
    scope = {
        "type": "websocket", "http_version": "1.1", "scheme": "wss", "server": ("pve", 8006), "client": None,
        "root_path": "", "headers": headers, "query_string": query, "path": f"/api2/json{path}",
        "raw_path": f"/api2/json{path}".encode(), "subprotocols": [], "extensions": {"websocket.http.response": {}},
    }  # fmt: skip
    await asyncio.wait_for(api.app(scope, asked.get, send), 10)
    return 101 if sent[0]["type"] == "websocket.accept" else int(sent[0].get("status", 403))


async def test_no_answer_is_for_another_site(api: Api) -> None:
    for method, path in (("GET", "/version"), ("POST", "/access/ticket"), ("OPTIONS", "/access/ticket"), ("GET", "/")):
        answer = await api.client.request(
            method, path, headers={"Origin": "https://evil.test", "Access-Control-Request-Method": "POST"}
        )
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert "set-cookie" not in answer.headers, "a cookie of ours needs its attributes tested"
        assert "location" not in answer.headers


@pytest.fixture
def listener() -> Any:
    """A listener on loopback, IPv4 and IPv6, that counts who comes."""
    seen: list[Any] = []
    sockets = []
    four = socket.create_server(("127.0.0.1", 0))
    port = four.getsockname()[1]
    sockets.append(four)
    if socket.has_dualstack_ipv6():
        sockets.append(socket.create_server(("::1", port), family=socket.AF_INET6))

    def take(sock: socket.socket) -> None:
        while True:
            try:
                seen.append(sock.accept())
            except OSError:
                return

    for sock in sockets:
        threading.Thread(target=take, args=(sock,), daemon=True).start()
    yield port, seen
    for sock in sockets:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()


async def test_a_download_does_not_reach_the_hosts_own_services(api: Api, listener: Any) -> None:
    """ATTACKS 20. Without the guard in `host/download.py` the listener is connected to."""
    port, seen = listener
    await api.data("POST", "/access/roles", roleid="Fetch", privs="Sys.AccessNetwork,Datastore.AllocateTemplate")
    user = await api.token(grants={"/": "Fetch"})
    hosts = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "0.0.0.0", "[::1]", "[::]", "localhost",
             "localhost.", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
             "169.254.169.254", "[fe80::1%25lo]", "a@127.0.0.1", "ip6-localhost"]  # fmt: skip
    for name in hosts:
        url = f"http://{name}:{port}/x.tar.gz"
        asked = await call(user, "GET", "/nodes/pve/query-url-metadata", url=url)
        assert asked.status_code in (400, 403, 500), (name, asked.text)
        fetched = await call(
            user, "POST", "/nodes/pve/storage/local/download-url", url=url, content="vztmpl", filename="x.tar.gz"
        )
        if fetched.status_code == 200:
            assert await api.wait(fetched.json()["data"]) != "OK", name
        else:
            assert fetched.status_code in (400, 403, 500), (name, fetched.text)
    for url in ("file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "http:///x", "unix:/run/x"):
        assert (await call(user, "GET", "/nodes/pve/query-url-metadata", url=url)).status_code == 400, url
    assert seen == []
