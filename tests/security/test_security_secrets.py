"""A secret of its own in every parameter that the table of routes marks as one, and a search for each of them.

Attack class 25: in logs, arguments, environments, answers to an auditor, backups, and files that others can read.
"""

import contextlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bastide.api.routing import Route
from bastide.model.audit import Secret
from bastide.model.record import _nested_metadata
from framework.evil import put_template, try_create
from framework.host import Host
from framework.malformed import Place, known_routes
from framework.processes import Watch
from framework.roots import busybox_tar

pytestmark = pytest.mark.system

# By their nature no secrets once they are set: everybody who may see the guest's options sees these.
SHOWN = {"env", "key", "value"}
REALM = {"realm": "hidden", "type": "ldap", "server1": "127.0.0.1", "base_dn": "dc=test", "user_attr": "uid",
         "bind_dn": "cn=admin"}  # fmt: skip
SHARE = {"storage": "hidden", "type": "cifs", "server": "127.0.0.1", "share": "x", "username": "u", "disable": 1}
# What a method needs besides, so that the secret is taken. Of what is not here the values are faulty, and refused.
WITH: dict[str, dict[str, Any]] = {
    "POST /storage password": SHARE,
    "PUT /storage/{storage} password": {"username": "u"},
    "POST /access/domains password": REALM,
    "POST /access/domains client-key": {"realm": "hidden2", "type": "openid", "issuer-url": "https://127.0.0.1:9",
                                        "client-id": "x"},
    "POST /access/users password": {"userid": "kept@pve"},
    "POST /access/users keys": {"userid": "kept2@pve"},
    "PUT /access/password password": {"userid": "kept@pve"},
    "PUT /access/password confirmation-password": {"userid": "kept@pve", "password": "something-else"},
    "POST /access/ticket password": {"username": "kept@pve"},
    "POST /bastide/session password": {"username": "kept@pve"},
    "POST /nodes/{node}/qemu cipassword": {"memory": 32, "ide2": "local:cloudinit"},
    "GET /nodes/{node}/scan/cifs password": {"server": "127.0.0.1", "username": "u"},
    "POST /nodes/{node}/qemu/{vmid}/agent/set-user-password password": {"username": "root"},
}  # fmt: skip


PLACE = re.compile(r"\{(\w+)\}")


def marked() -> Iterator[tuple[Route, str]]:
    """Each parameter that is marked as a secret, or has the name of one, with its method."""
    for route in known_routes():
        record = route.body or route.parameters
        for name, field in record.model_fields.items():
            marks = [*field.metadata, *_nested_metadata(field.annotation)]
            if any(isinstance(mark, Secret) for mark in marks):
                yield route, field.alias or name


@pytest.fixture
def place(host: Host) -> Iterator[Place]:
    vmid, told = try_create(host, put_template(host, "secrets", busybox_tar()))
    assert vmid is not None, told
    vm = host.create_vm(ide2="local:cloudinit", scsi0="local:1")
    host.post("/access/users", userid="other@pve")
    yield Place(host.node, vmid, vm)
    for one in (vmid, vm):
        host.remove(one)
    for path in ("/access/users/kept@pve", "/access/users/kept2@pve", "/access/users/other@pve", "/storage/hidden",
                 "/access/domains/hidden", "/access/domains/hidden2", "/access/users/looks@pve"):  # fmt: skip
        host.http.delete(path)


def tell(host: Host, place: Place, route: Route, name: str, word: str) -> int:
    """Send the word as that parameter; the answer's status."""
    values = {**WITH.get(f"{route.method} {route.path} {name}", {}), name: word}
    if route.path in ("/nodes/{node}/lxc", "/nodes/{node}/qemu"):
        values["vmid"] = host.new_vmid()
    there = {part: place.value(part, route.path) for part in PLACE.findall(route.path)}
    there |= {part: "hidden" for part in ("storage", "realm") if part in there}
    path = PLACE.sub(lambda found: there[found[1]], route.path)
    where = "params" if route.method in ("GET", "DELETE") else "data"
    answer = host.http.request(route.method, path, **{where: values})  # type: ignore[arg-type]
    assert word not in answer.text, f"{route.method} {path} {name}: {answer.text}"
    assert word not in answer.reason_phrase
    if answer.status_code == 200 and str(answer.json()["data"]).startswith("UPID:"):
        with contextlib.suppress(Exception):
            host.wait(answer.json()["data"])
    if values.get("vmid") and answer.status_code == 200:
        host.http.delete(f"{path}/{values['vmid']}")
    return answer.status_code


def seen_by_auditor(host: Host, place: Place) -> str:
    """Whatever somebody sees who may look at all."""
    host.post("/access/users", userid="looks@pve")
    host.put("/access/acl", path="/", users="looks@pve", roles="PVEAuditor")
    secret = host.post("/access/users/looks@pve/token/t", privsep=0)["value"]
    found = []
    with httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=False, timeout=90) as client:
        client.headers["Authorization"] = f"PVEAPIToken=looks@pve!t={secret}"
        for route in known_routes(r"^GET (?!.*(rrd|scan|images|query-url|disks|journal))"):
            for realm in ("hidden", "hidden2") if "{realm}" in route.path else ("hidden",):
                names = {"storage": "hidden", "realm": realm, "userid": "kept@pve"}
                there = {name: names.get(name, place.value(name, route.path)) for name in PLACE.findall(route.path)}
                path = PLACE.sub(lambda found, there=there: there[found[1]], route.path)
                found.append(client.get(path, params={"source": "all"} if path.endswith("/tasks") else {}).text)
        upids = re.findall(r"UPID:[^\"]+", "".join(found))
        found += [client.get(f"/nodes/{host.node}/tasks/{upid}/log").text for upid in sorted(set(upids))[:200]]
    return "".join(found)


def files_of(host: Host) -> Iterator[Path]:
    """The files of the host's state, logs and runtime, but for guests' volumes."""
    for folder, folders, files in os.walk(host.root):
        folders[:] = [name for name in folders if Path(folder, name) not in (host.root / "state/storage/images",)]
        yield from (path for name in files if stat.S_ISREG((path := Path(folder, name)).lstat().st_mode))


def test_no_secret_of_any_method_is_told(host: Host, place: Place) -> None:
    """Without the mark at a parameter, `***` in the audit log, or a file of its own for a storage's, this fails."""
    words = {(route, name): f"Zq{secrets.token_hex(12)}" for route, name in marked()}
    assert len(words) > 30
    with Watch(list(words.values())) as watch:
        told = {key: tell(host, place, *key, word) for key, word in words.items()}
        for vmid in (place.lxc, place.qemu):
            host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=vmid, storage="local", compress="0"))
    assert watch.looks > 5
    assert watch.found == set()
    taken = {f"{route.method} {route.path} {name}" for (route, name), status in told.items() if status == 200}
    assert {"POST /storage password", "POST /access/domains password", "POST /access/users password",
            "PUT /nodes/{node}/qemu/{vmid}/config cipassword"} <= taken  # fmt: skip
    hidden = {word: f"{route.method} {route.path} {name}" for (route, name), word in words.items() if name not in SHOWN}
    shown = seen_by_auditor(host, place)
    assert "kept@pve" in shown
    assert [name for word, name in hidden.items() if word in shown] == []
    open_files, in_the_clear = [], []
    for path in files_of(host):
        content, mode = path.read_bytes(), stat.S_IMODE(path.stat().st_mode)
        for word, name in hidden.items():
            if word.encode() in content:
                in_the_clear.append((name, str(path.relative_to(host.root)), oct(mode)))
        # dnsmasq, which gives up root, keeps its leases in `network`; what is in `storage` belongs to guests.
        if re.match(r"state/(?!storage/|network/)", str(path.relative_to(host.root))) and mode & 0o137:
            open_files.append((str(path), oct(mode)))
    assert open_files == []
    # What has to be sent in the clear some day, a share's password or a directory's, root alone reads.
    assert [row for row in in_the_clear if row[2] not in ("0o600", "0o400")] == []
    assert [row for row in in_the_clear if row[1].startswith(("log/", "run/", "state/storage/"))] == []
    assert [row for row in in_the_clear if re.search(r"/access/(users|password|ticket) password|session", row[0])] == []
    for row in host.get(f"/nodes/{host.node}/storage/local/content", content="backup"):
        if row.get("vmid") in (place.lxc, place.qemu):
            host.wait(host.delete(f"/nodes/{host.node}/storage/local/content/{row['volid']}"))
