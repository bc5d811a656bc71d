"""What the host hands out, and where it goes for what it fetches.

Attack classes 20 (SSRF), 21 (files by way of an answer, ends of lines in it) and 22 (paths in parameters).
"""

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bastide.api.branches import routes
from bastide.api.routing import Route
from framework.api import Api, call
from framework.evil_images import Listener, listener
from framework.host import ApiFailure, Host, TaskFailed
from framework.rooms import FAKE_STORAGES, TEMPLATE

PLACES = {
    "node": "pve", "vmid": "100", "guest": "100", "storage": "local", "userid": "root@pam", "tokenid": "t", "id": "job",
    "roleid": "PVEAdmin", "groupid": "g", "poolid": "p", "snapname": "one", "server": "debian", "name": "thing",
    "volume": TEMPLATE, "upid": "UPID:pve:00000001:00000001:00000001:x:100:root@pam:", "realm": "pve", "type": "dir",
}  # fmt: skip
FILES = {
    "/architect/compare/chart", "/bastide/guests/{guest}/file", "/bastide/guests/{guest}/screenshot",
    "/nodes/{node}/storage/{storage}/file-restore/download", "/nodes/{node}/tasks/{upid}/log",
}  # fmt: skip
"""The GETs whose answer may be something else than a document of ours."""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A container 100 and a running VM 200 whose agent answers as the test wishes."""
    made = await Api.make(tmp_path, FAKE_STORAGES)
    upid = await made.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=TEMPLATE, unprivileged=1, rootfs="local:1")
    assert await made.wait(upid) == "OK"
    assert await made.wait(await made.data("POST", "/nodes/pve/qemu", vmid=200, agent=1)) == "OK"
    assert await made.wait(await made.data("POST", "/nodes/pve/qemu/200/status/start")) == "OK"
    yield made
    await made.services.rooms.tasks.shutdown()


def gets() -> list[Route]:
    """Every method that only looks."""
    return [route for route in routes() if route.method == "GET" and not route.websocket]


def path_of(route: Route) -> str:
    """The route's path with something in each place."""
    vm = "200" if "/qemu/" in route.path else "100"
    return re.sub(r"\{([^}]+)\}", lambda found: {**PLACES, "vmid": vm}.get(found[1], "x"), route.path)


@pytest.mark.anyio
async def test_no_answer_but_the_known_ones_is_a_file(api: Api) -> None:
    """ATTACKS 21: every GET answers with a JSON document. Without `success` in `api/answers.py` this fails."""
    asked = 0
    for route in gets():
        if route.path in FILES or "/events" in route.path:
            continue
        answer = await api.root.get(path_of(route))
        asked += 1
        assert answer.headers["content-type"].startswith("application/json"), (route.path, answer.headers)
        assert "content-disposition" not in answer.headers, route.path
        json.loads(answer.text or "{}")
    assert asked > 100


HOSTILE: list[Any] = [
    {"download": "/etc/shadow"}, {"download": {"path": "/etc/shadow", "content-type": "text/plain"}},
    {"stream": "/etc/shadow", "fh": 3}, {"data": {"download": "/etc/shadow"}, "headers": {"X-Evil": "1"}},
    [{"download": "/etc/shadow"}], "/etc/shadow", {"result": {"download": "/etc/shadow"}}, {"upid": "x"},
    {"return": "a\r\nX-Evil: 1\r\n\r\n"}, {"name": "<script>", "ip-addresses": [{"download": "/etc/shadow"}]},
]  # fmt: skip


@pytest.mark.anyio
@pytest.mark.parametrize("hostile", HOSTILE, ids=str)
async def test_no_answer_of_an_agent_becomes_a_file_of_the_hosts(api: Api, hostile: Any) -> None:
    """ATTACKS 21: an agent that answers what Proxmox VE's server once took for an order to send a file.

    Without the wrapping in `data` by `api/answers.py`, or with a look at `download` there, this fails.
    """
    shadow = Path("/etc/shadow").read_text().splitlines()[0]
    engine: Any = api.services.rooms.vms
    asked = [route for route in routes() if "/agent" in route.path and not route.websocket]
    assert len(asked) > 20
    names = {route.path.rpartition("/")[2] for route in asked} | {"file-open", "file-close", "file-seek", "ping"}
    engine.answers.update({f"guest-{name}": hostile for name in names})
    given = {"command": "true", "file": "/x", "content": "x", "username": "root", "password": "secret", "pid": "1"}
    for route in [*asked, *(route for route in gets() if "{guest}" in route.path or "/status/current" in route.path)]:
        path = re.sub(r"\{(vmid|guest)\}", "200", route.path).replace("{node}", "pve")
        wanted = {key: value for key, value in given.items() if key in route.parameters.model_fields}
        if "command" in wanted and not path.endswith("exec"):
            wanted["command"] = "get-osinfo"
        answer = await call(api.root, route.method, path, **wanted)
        assert shadow not in answer.text, route.path
        assert "x-evil" not in answer.headers, route.path
        if route.path not in FILES:
            assert answer.headers["content-type"].startswith("application/json"), route.path


@pytest.mark.anyio
async def test_what_can_make_the_host_fetch_needs_a_right(api: Api) -> None:
    """ATTACKS 20: who may make guests and templates, and no more, sends the host nowhere.

    Without the `check` of these methods, or the webhook's in `api/backup_permissions.py`, this fails.
    """
    roles = {"/vms": "PVEVMAdmin", "/storage": "PVEDatastoreAdmin", "/sdn": "PVESDNUser", "/pool": "PVEPoolAdmin"}
    user = await api.token(grants=roles)
    with listener() as ears:
        url = f"http://127.0.0.1:{ears.port}/x.iso"
        asked: list[tuple[str, str, dict[str, str]]] = [
            ("GET", "/nodes/pve/query-url-metadata", {"url": url}),
            ("POST", "/nodes/pve/storage/local/download-url", {"url": url, "content": "iso", "filename": "x.iso"}),
            ("PUT", "/bastide/image-servers/mine", {"url": url}),
            ("POST", "/nodes/pve/vzdump", {"vmid": "100", "webhook": url.replace("http:", "https:")}),
            ("POST", "/cluster/backup", {"all": "1", "schedule": "daily", "webhook": url.replace("http:", "https:")}),
        ]  # fmt: skip
        for method, path, values in asked:
            answer = await call(user, method, path, **values)
            assert answer.status_code == 403, (path, answer.text)
        assert ears.seen == []


@pytest.mark.anyio
async def test_not_even_root_reaches_the_hosts_own_services(api: Api) -> None:
    """ATTACKS 20: downloads, pulls, image servers at loopback. Without `Guard.permits` in `host/download.py` it fails.

    A registry's images are not pulled at all, which is said.
    """
    pulls = "/bastide/images/pull"
    with listener() as ears:
        for host in ("127.0.0.1", "[::1]", "localhost", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"):
            url = f"http://{host}:{ears.port}"
            for method, path, values in (
                ("GET", "/nodes/pve/query-url-metadata", {"url": f"{url}/x.iso"}),
                ("POST", "/nodes/pve/storage/local/download-url",
                 {"url": f"{url}/x.iso", "content": "iso", "filename": "x.iso"}),
                ("POST", pulls, {"source": f"{url}/x.tar.xz"}),
                ("PUT", "/bastide/image-servers/mine", {"url": url}),
                ("POST", pulls, {"source": "mine:debian/12"}),
                ("POST", "/nodes/pve/storage/local/oci-registry-pull", {"reference": f"127.0.0.1:{ears.port}/a:b"}),
            ):  # fmt: skip
                answer = await call(api.root, method, path, **values)
                if answer.status_code == 200 and answer.json()["data"]:
                    assert await api.wait(answer.json()["data"]) != "OK", (path, values)
                if path.endswith("oci-registry-pull"):
                    assert answer.status_code == 501
        for url in ("file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "//etc/passwd", "unix:/run/x"):
            for path, key in (("/nodes/pve/storage/local/download-url", "url"), (pulls, "source")):
                answer = await call(api.root, "POST", path, content="iso", filename="x.iso", **{key: url})
                assert answer.status_code in (400, 500), (path, url, answer.text)
        assert ears.seen == []


SECRET = "a-page-of-another-network"


@contextmanager
def misleading(host: Host, ears: Listener) -> Iterator[str]:
    """A server on the host's bridge: `/fails` has a secret in an error, `/away` leads to loopback. Yields its URL."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(302 if self.path.startswith("/away") else 500, SECRET)
            self.send_header("Location", f"http://127.0.0.1:{ears.port}/")
            self.send_header("X-Secret", SECRET)
            self.send_header("Content-Length", str(len(SECRET)))
            self.end_headers()
            self.wfile.write(SECRET.encode())

        do_HEAD = do_GET  # noqa: N815 - the base class's names

        def log_message(self, *_args: Any) -> None:
            """Say nothing."""

    shown = subprocess.run(["ip", "-j", "-4", "addr", "show", host.bridge], capture_output=True, check=True)
    address = json.loads(shown.stdout)[0]["addr_info"][0]["local"]
    server = http.server.ThreadingHTTPServer((address, 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://{address}:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.system
def test_a_server_that_may_be_asked_leads_nowhere_and_shows_nothing(host: Host) -> None:
    """ATTACKS 20: redirects to loopback end there; what an unwilling server says is not told to the asker.

    Without the guard at each connection, or with the server's words in `_expect` of `host/download.py`, it fails.
    """
    with listener() as ears, misleading(host, ears) as url:
        for place in ("away", "fails"):
            with pytest.raises(ApiFailure) as asked:
                host.get(f"/nodes/{host.node}/query-url-metadata", url=f"{url}/{place}")
            where = f"/nodes/{host.node}/storage/local/download-url"
            with pytest.raises((ApiFailure, TaskFailed)) as fetched:
                host.wait(host.post(where, url=f"{url}/{place}", content="iso", filename="x.iso"))
            assert SECRET not in f"{asked.value} {asked.value.reason} {fetched.value}"
        assert ears.seen == []


def raw_answer(host: Host, target: bytes, *, name: bytes = b"localhost") -> bytes:
    """What the daemon answers on its port to a request for this target, byte for byte."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", host.port), timeout=30)) as sock:
        sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n\r\n")
        found = b""
        while part := sock.recv(65536):
            found += part
    return found


TARGETS = [
    b"//evil.example/%2f..", b"//evil.example", b"/\\evil.example", b"/%5cevil.example", b"/%2f%2fevil.example/..",
    b"http://evil.example/", b"http://a@evil.example/", b"/@evil.example/", b"/.evil.example", b"///evil.example/..",
    b"/api2/json/%0d%0aLocation:%20//evil.example", b"/api2/json/nodes/x%0d%0aX-Evil:%201/status",
    b"/api2/json/nodes/testnode/lxc/1%0d%0aX-Evil:1/config", b"/api2//json/version", b"/api2/json/../../etc/passwd",
    b"/assets/..%2f..%2f..%2f..%2fetc/passwd", b"/assets/%2e%2e/%2e%2e/%2e%2e/etc/passwd", b"/..;/etc/passwd",
    b"/api2/json/nodes/..%252f..%252fetc/status", b"/api2/json/nodes/\xc0\xae\xc0\xae/status", b"/%00", b"/%ff%fe",
]  # fmt: skip


@pytest.mark.system
@pytest.mark.parametrize("target", TARGETS)
def test_no_target_on_the_wire_leads_out(host: Host, target: bytes) -> None:
    """ATTACKS 21 and 22: no redirect, no header of the asker's, no file. Without `api/page.py`'s table this fails."""
    answer = raw_answer(host, target)
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    assert not 300 <= status < 400, head
    assert not re.search(rb"(?im)^(location|x-evil|refresh):", head), head
    assert b"root:" not in body
    assert head.split(b"\r\n")[0].count(b"HTTP/1.1") == 1
