"""Requests from the schema, good and bad, against a real daemon with a running container and a VM.

Attack class 29 (malformed input, and what is read before anybody is known). The sweep of 100,000 is marked `slow`.
"""

import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from random import Random
from urllib.parse import quote

import pytest

from framework.evil import put_template, try_create
from framework.host import Host
from framework.malformed import Ask, Place, Wire, known_routes, requests
from framework.roots import busybox_tar

pytestmark = pytest.mark.system

ROLES = {"/": "PVEAuditor", "/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/pool": "PVEPoolAdmin",
         "/sdn": "PVESDNUser"}  # fmt: skip
# What a guest's administrator may do and what would end the guests, fill the disk or take minutes.
HEAVY = r"^(?!.*/(status/|template|rollback|clone|vzdump|startall|stopall|compare|install|launch|apply|destroy|move_)" \
        r")(?!DELETE \S+/(lxc|qemu)/\{vmid\}$).*"  # fmt: skip
# What root may be let do: nothing that reaches the host's disks, clock, power, packages or network.
HARMLESS = (
    r"^GET (?!.*(scan|query-url|images|aplinfo|disks|smart|hardware|rrd|report|netstat|journal|image-servers))"
    r"| /(access/(roles|groups|acl|users)|pools|cluster/backup)|/(lxc|qemu)/\{vmid\}/config$|POST /access/ticket"
)
_UNKNOWN = "internal error"


@pytest.fixture(scope="module")
def place(host: Host) -> Iterator[Place]:
    """A running container and a VM, other people, and what else paths name."""
    before = records(host)
    vmid, told = try_create(host, put_template(host, "malformed", busybox_tar()), start=1)
    assert vmid is not None, told
    vm = host.create_vm(start=True, serial0="socket", scsi0="local:1")
    for user in ("other@pve", "fuzz@pve"):
        host.post("/access/users", userid=user)
    host.post("/access/groups", groupid="crew")
    host.post("/pools", poolid="team")
    for path, role in ROLES.items():
        host.put("/access/acl", path=path, users="fuzz@pve", roles=role)
    yield Place(host.node, vmid, vm)
    for one in (vmid, vm):
        host.remove(one)
    for path in records(host) - before:
        host.http.delete(path)


def records(host: Host) -> set[str]:
    """The paths of people, groups, roles, pools and backup jobs."""
    kinds = {"/access/users": "userid", "/access/groups": "groupid", "/access/roles": "roleid", "/pools": "poolid",
             "/cluster/backup": "id"}  # fmt: skip
    return {f"{path}/{quote(row[key], safe='')}" for path, key in kinds.items() for row in host.get(path)}


def sweep(host: Host, place: Place, count: int, seed: int) -> Counter[int]:
    """So many requests of a guests' administrator, of root and of a stranger; how they were answered."""
    secret = host.post("/access/users/fuzz@pve/token/t", privsep=0)["value"]
    root = host.post(f"/access/users/root@pam/token/sweep{seed}", privsep=0)["value"]
    people = (
        (Wire(host.port, {"Authorization": f"PVEAPIToken=fuzz@pve!t={secret}"}), known_routes(HEAVY), 6),
        (Wire(host.port, {"Authorization": f"PVEAPIToken=root@pam!sweep{seed}={root}"}), known_routes(HARMLESS), 3),
        (Wire(host.port), known_routes(), 1),
    )
    seen: Counter[int] = Counter()
    try:
        for number, (wire, known, share) in enumerate(people):
            rng = Random(seed * 10 + number)
            for ask in islice(requests(rng, place, known), count * share // 10):
                seen[check(wire, ask)] += 1
    finally:
        host.delete("/access/users/fuzz@pve/token/t")
        host.delete(f"/access/users/root@pam/token/sweep{seed}")
    return seen


def check(wire: Wire, ask: Ask) -> int:
    """The status of an answer, which is a documented one and no confession."""
    status, body = wire.send(ask)
    told = f"{ask}\n{status} {body[:500]!r}"
    assert status in (200, 400, 401, 403, 404, 408, 409, 413, 415, 431, 500, 501, 503), told
    assert _UNKNOWN.encode() not in body, told
    if status == 500:  # Proxmox VE's API says so of a guest that is not there: by a sentence, never by an accident
        assert str(json.loads(body)["message"]).strip(), told
    return status


def look_well(host: Host, place: Place, pid: int, log: int) -> None:
    """The same process, which still answers and has logged no fault; the guests run."""
    assert host.process is not None
    assert (host.process.pid, host.process.poll()) == (pid, None)
    assert "Traceback" not in host.daemon_log()[log:]
    for vmid in (place.lxc, place.qemu):
        assert host.get(host.path(vmid, "/status/current"))["status"] == "running"


def swept(host: Host, place: Place, count: int, seed: int) -> None:
    assert host.process is not None
    pid, log = host.process.pid, len(host.daemon_log())
    seen = sweep(host, place, count, seed)
    print(f"{seen.total()} requests: {dict(sorted(seen.items()))}")
    assert seen[200] > count / 50, "next to nothing was taken: the requests do not reach what lies behind"
    assert seen[400] > count / 20
    assert seen[401] >= count / 20
    look_well(host, place, pid, log)


def test_thousands_of_odd_requests_break_nothing(host: Host, place: Place) -> None:
    """Without the table of errors in `api/errors.py`, or any check of a parameter's type, this fails."""
    swept(host, place, 2000, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 12))
def test_a_hundred_thousand_odd_requests_break_nothing(host: Host, place: Place, seed: int) -> None:
    swept(host, place, 10_000, seed)


def half_asked(host: Host, head: str) -> str:
    """What a stranger is answered whose head promises a body that does not come."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with context.wrap_socket(socket.create_connection(("127.0.0.1", host.port), timeout=20)) as sock:
        sock.sendall(head.encode())
        return sock.recv(65536).decode()


def test_a_strangers_body_is_not_read(host: Host, place: Place) -> None:
    """Without the order in `api/dispatch.py`, who before what, a broken body is answered with 400, 413 or 415.

    That it is not waited for either is seen by the answer, which comes though the body never does.
    """
    wire = Wire(host.port)
    broken = {"application/json": b"{", "multipart/form-data": b"--", "application/x-www-form-urlencoded": b"\xff=%",
              "text/xml": b"<a", "application/json; charset=utf-16": b"\0"}  # fmt: skip
    closed = [route for route in known_routes("^(POST|PUT|DELETE)") if route.user != "world"]
    assert len(closed) > 80
    for route in closed:
        target = "/api2/json" + re.sub(r"\{([^}]+)\}", lambda m, path=route.path: place.value(m[1], path), route.path)
        for kind, body in broken.items():
            ask = Ask(route, target, body, {"Content-Type": kind})
            assert wire.send(ask) == (401, b""), str(ask)
    began = time.monotonic()
    for method, path in (("POST", f"/nodes/{host.node}/lxc"), ("PUT", "/access/acl"), ("DELETE", "/pools")):
        for more in (
            "Content-Length: 40000",
            "Transfer-Encoding: chunked",
            "Content-Length: 9\r\nExpect: 100-continue",
        ):
            head = f"{method} /api2/json{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}\r\n\r\n"
            assert half_asked(host, head).startswith("HTTP/1.1 401"), head
    assert time.monotonic() - began < 9 * 15, "an answer waited for the body's deadline"
