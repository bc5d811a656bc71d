"""Requests that want more than they may: in process, over the fakes.

Attack classes 9 (line ends in values), 12 to 14 (what is root's alone, by other routes, others' volumes), 17 (other
sites), 20 (addresses of the host's own), 21 (answers), 27 (what a reused vmid inherits).
"""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from bastide.api.branches import routes
from bastide.api.lxc import ConfigChange, ContainerCreate
from bastide.base.errors import BastideError
from bastide.guest.lxc.host import HostFeatures
from bastide.guest.lxc.render import render_config
from bastide.guest.protocol import ContainerPlan, IdMap
from bastide.model.container import ContainerConfig
from bastide.operations.ct import plan as plans
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

LXC = "/nodes/pve/lxc"
NET = "name=eth0,bridge=vmbr0"
ENDS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1b", "\x85", "\u2028", "\u2029", "\0", "\n[snapshot]\n"]
EXAMPLES = {
    "net": NET, "mp": "local:1,mp=/srv", "dev": "/dev/null", "unused": "local:1", "rootfs": "local:1",
    "features": "nesting=1", "startup": "order=1", "ostemplate": TEMPLATE, "tags": "a", "nameserver": "192.0.2.1",
    "lock": "backup", "hookscript": "local:snippets/x", "storage": "local", "ssh-public-keys": "ssh-ed25519 AAAA x",
    "env": "A=1", "password": "secret-word", "delete": "cores", "revert": "cores", "digest": "0" * 40,
}  # fmt: skip
# These may hold several lines; they are no lines of any configuration.
LINES = {"description", "ssh-public-keys", "password"}
# NUL stands between two variables of `env`.
BETWEEN = {("env", "\0")}


def written(kind: Any) -> list[str]:
    """The names under which every parameter with text in it is given: `net0` for `net`."""
    found = []
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if name in ("net", "mp", "dev", "unused"):
            found.append(f"{key}0")
        elif name not in ("node", "vmid"):
            found.append(key)
    return found


async def make(api: Api, vmid: int = 100, **options: Any) -> None:
    upid = await api.data("POST", LXC, vmid=vmid, ostemplate=TEMPLATE, unprivileged=1, **options)
    assert await api.wait(upid) == "OK"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


def lxc_keys(plan: ContainerPlan) -> list[str]:
    """The keys of the configuration LXC would get, read the way LXC splits lines, and stricter."""
    features = HostFeatures(cgroup=2, apparmor=True)
    text = render_config(plan, features, instance="b", rootfs=Path("/r"), seccomp=Path("/s"))
    return sorted({line.partition("=")[0].strip() for line in text.splitlines() if line.strip()})


@pytest.mark.parametrize("key", written(ConfigChange))
async def test_no_changed_value_ends_a_line(api: Api, key: str) -> None:
    """ATTACKS 9, when a container is changed. Without `forbidden_character` in `model/record.py` this fails."""
    await make(api, net0=NET, hostname="web")
    before = await api.data("GET", f"{LXC}/100/config")
    good = EXAMPLES.get(key.rstrip("0"), "x")
    for end in ENDS:
        if (key, end) in BETWEEN:
            continue
        value = f"{good}{end}lxc.mount.entry = / mnt none bind 0 0"
        answer = await call(api.root, "PUT", f"{LXC}/100/config", **{key: value})
        if key not in LINES or end == "\0":
            assert answer.status_code == 400, (key, end, answer.text)
        if key not in LINES:
            assert await api.data("GET", f"{LXC}/100/config") == before
    guest = await api.services.rooms.guests.get(100)
    shown = await api.data("GET", f"{LXC}/100/config")
    assert shown.keys() - {"arch", "ostype", "digest", "hostname", "net0", "rootfs", "unprivileged"} <= {key}
    assert {k: v for k, v in guest.config.items() if "\n" in str(v)}.keys() <= LINES
    plan = await plans.container_plan(api.services.rooms, guest)
    assert "lxc.mount.entry" not in lxc_keys(plan)


@pytest.mark.parametrize("key", written(ContainerCreate))
async def test_no_first_value_ends_a_line(api: Api, key: str) -> None:
    """ATTACKS 9, when a container is made. Without `forbidden_character` in `model/record.py` this fails."""
    good = EXAMPLES.get(key.rstrip("0"), "x")
    for number, end in enumerate(ENDS):
        if (key in LINES and end != "\0") or (key, end) in BETWEEN:
            continue
        values = {"vmid": 200 + number, "ostemplate": TEMPLATE, "unprivileged": 1}
        values[key] = f"{good}{end}lxc.hook.start = /bin/sh"
        answer = await call(api.root, "POST", LXC, **values)
        assert answer.status_code in (400, 501), (key, end, answer.text)
    assert await api.data("GET", LXC) == []


def test_the_look_at_keys_would_see_a_line() -> None:
    """The measure of the two tests above measures: a renderer that lets a line end pass is found out."""
    config = ContainerConfig.parse({"hostname": "a"}).model_copy(update={"hostname": "a\nlxc.mount.entry = /"})
    with pytest.raises(BastideError):
        lxc_keys(ContainerPlan(100, config, Path("/r"), [], {}, IdMap(65536)))


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


ROOTS = [
    {"mp0": "/srv,mp=/mnt"}, {"dev0": "/dev/null"}, {"features": "keyctl=1"}, {"features": "fuse=1,nesting=1"},
    {"features": "mount=ext4"}, {"features": "force_rw_sys=1"}, {"lock": "migrate"},
]  # fmt: skip


@pytest.mark.parametrize("options", ROOTS, ids=str)
async def test_what_is_roots_alone_is_roots(api: Api, options: dict[str, str]) -> None:
    """The same change is refused to an administrator, to both kinds of token, and allowed to root."""
    await make(api)
    admin = await api.token("admin@pve", grants={"/": "Administrator"})
    apart = await api.token("apart@pve", grants={"/": "Administrator"}, privsep=1)
    await api.data("PUT", "/access/acl", path="/", tokens="apart@pve!t", roles="Administrator")
    await api.data("POST", "/access/users", userid="person@pve", password="open-sesame")
    await api.data("PUT", "/access/acl", path="/", users="person@pve", roles="Administrator")
    login = await call(api.client, "POST", "/access/ticket", username="person@pve", password="open-sesame")
    person = api.client
    person.headers["Cookie"] = f"PVEAuthCookie={login.json()['data']['ticket']}"
    person.headers["CSRFPreventionToken"] = login.json()["data"]["CSRFPreventionToken"]
    assert (await call(person, "PUT", f"{LXC}/100/config", cores="1")).status_code == 200
    for who in (admin, apart, person):
        for method, path, more in (
            ("PUT", f"{LXC}/100/config", {}),
            ("POST", LXC, {"vmid": "101", "ostemplate": TEMPLATE, "unprivileged": "1"}),
        ):
            answer = await call(who, method, path, **more, **options)
            assert answer.status_code == 403, (method, answer.text)
    if "mp0" not in options:
        assert (await call(api.root, "PUT", f"{LXC}/100/config", **options)).status_code == 200


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
