"""Whoever wants more than they may: their own token's rights, others' volumes, rights that were taken away.

Attack classes 14 (use of another's object), 15 (tokens that give themselves more) and 27 (what outlives a right, a
user, a token or a guest), against a real daemon with real guests.
"""

import concurrent.futures
import contextlib
import csv
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from framework.evil import put_template, try_create
from framework.host import ApiFailure, Host
from framework.people import Person, person
from framework.roots import busybox_tar
from framework.sockets import execute

pytestmark = pytest.mark.system

CUT = 60.0
"""Seconds within which what was begun has to end."""

LOCAL = "/nodes/testnode/storage/local"


@pytest.fixture(scope="module")
def box(host: Host) -> Iterator[int]:
    """A running container."""
    vmid, told = try_create(host, put_template(host, "small", busybox_tar()))
    assert vmid is not None, told
    host.act(vmid, "start")
    yield vmid
    host.remove(vmid)


# tokens


SELF = [
    ("PUT", "/access/users/{user}", {"comment": "x"}),
    ("PUT", "/access/users/{user}", {"groups": "bosses"}),
    ("DELETE", "/access/users/{user}", {}),
    ("PUT", "/access/users/{user}/token/t", {"privsep": 0}),
    ("PUT", "/access/users/{user}/token/t", {"expire": 0}),
    ("DELETE", "/access/users/{user}/token/t", {}),
    ("POST", "/access/users/{user}/token/more", {"privsep": 0}),
    ("PUT", "/access/acl", {"path": "/", "tokens": "{user}!t", "roles": "Administrator"}),
    ("PUT", "/access/acl", {"path": "/", "users": "{user}", "roles": "Administrator"}),
    ("PUT", "/access/acl", {"path": "/", "groups": "bosses", "roles": "Administrator"}),
    ("PUT", "/access/acl", {"path": "/vms", "users": "{user}", "roles": "NoAccess", "delete": 1}),
    ("PUT", "/access/users/{user}/unlock-tfa", {}),
]


@pytest.fixture(scope="module")
def separate(host: Host) -> Iterator[Person]:
    """A token with privilege separation that has every privilege, of a user who is in a group."""
    host.post("/access/groups", groupid="bosses")
    with person(host, "ada-self", {"/": "Administrator"}) as ada:
        host.put(f"/access/users/{ada.userid}", groups="bosses")
        ada.by_token(privsep=1)
        host.put("/access/acl", path="/", tokens=f"{ada.userid}!t", roles="Administrator")
        yield ada
    host.delete("/access/groups/bosses")


@pytest.mark.parametrize(("method", "path", "values"), SELF, ids=lambda value: str(value)[:40])
def test_a_separate_token_changes_nothing_of_its_user(
    separate: Person, method: str, path: str, values: dict[str, Any]
) -> None:
    """Without `check_own_change` this fails: it may do all that, and a token that is stolen outlives its removal."""
    filled = {key: str(value).replace("{user}", separate.userid) for key, value in values.items()}
    answer = separate.call(method, path.replace("{user}", separate.userid), **filled)
    assert answer.status_code == 403, answer.text


def test_it_is_let_in_elsewhere(separate: Person, host: Host) -> None:
    """What is refused above is not refused for want of rights."""
    assert separate.status("PUT", "/access/users/root@pam") == 403, "nobody changes root@pam but itself"
    with person(host, "eve-elsewhere") as eve:
        assert separate.status("PUT", f"/access/users/{eve.userid}", comment="x") == 200
        assert separate.status("PUT", "/access/acl", path="/vms", users=eve.userid, roles="PVEAuditor") == 200


TICKET_ONLY = [
    ("POST", "/access/ticket", {"username": "root@pam", "password": "x"}),
    ("PUT", "/access/password", {"userid": "root@pam", "password": "long-enough"}),
    ("POST", "/access/tfa/root@pam", {"type": "recovery"}),
    ("PUT", "/access/tfa/root@pam/x", {"enable": 0}),
    ("DELETE", "/access/tfa/root@pam/x", {}),
]


@pytest.mark.parametrize(("method", "path", "values"), TICKET_ONLY, ids=lambda value: str(value)[:30])
def test_some_methods_are_for_no_token_at_all(host: Host, method: str, path: str, values: dict[str, Any]) -> None:
    """Without `allow_token=False` on the route this fails, for root@pam's own token too."""
    made = host.post("/access/users/root@pam/token/whole", privsep=0)
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=False, timeout=60) as client:
            client.headers["Authorization"] = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
            where = "params" if method == "DELETE" else "data"
            answer = client.request(method, path, **{where: values})  # type: ignore[arg-type]
            assert answer.status_code == 403, answer.text
            assert "API token" in answer.json()["message"]
    finally:
        host.delete("/access/users/root@pam/token/whole")


# the table of decisions, in the daemon that people use

_SOME = ("anon", "none@pve", "root@pam!full", "p-VM_Audit@pve", "p-Sys_Audit@pve", "p-Datastore_Audit@pve",
         "p-User_Modify@pve", "r-PVEAuditor@pve", "s-vm100@pve", "s-pool-deny100@pve")  # fmt: skip


def test_the_daemon_decides_as_the_table_says(host: Host, reference: Path) -> None:
    """A sample of reads; every row is replayed in tests/unit/api. Without the check of its route this fails."""
    lines = [line.split(":") for line in (reference / "authz/user.cfg").read_text().splitlines() if line]
    wanted = {parts[2]: parts[3] for kind, *parts in lines if kind == "acl" and parts[1] == "/" and parts[2] in _SOME}
    privileges = {parts[0]: parts[1] for kind, *parts in lines if kind == "role"}
    with contextlib.ExitStack() as stack:
        callers: dict[str, Person] = {}
        for name, role in wanted.items():
            if role in privileges:
                host.post("/access/roles", roleid=role, privs=privileges[role])
                stack.callback(host.delete, f"/access/roles/{role}")
            callers[name] = stack.enter_context(person(host, f"{name.partition('@')[0]}-table", {"/": role})).by_token()
        callers["none@pve"] = stack.enter_context(person(host, "none-table")).by_ticket()
        wrong, seen = [], 0
        with (reference / "authz/decisions.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["vmid"] == "100" and row["method"] == "GET"
                    and "vzdump" not in row["path"]  # whose rules are in words
                    and "{" not in row["path"].replace("{node}", "").replace("{storage}", "")
                    and re.match(r"/(access|cluster|nodes|pools|storage|version)", row["path"])]  # fmt: skip
        for row in rows:
            path = row["path"].replace("{node}", host.node).replace("{storage}", "local")
            for name, caller in callers.items():
                status = caller.status("GET", path)
                if status == 501:
                    continue
                seen += 1
                if (status == 403) != (row[name] == "0"):
                    wrong.append((path, name, row[name], status))
    assert wrong == []
    assert seen > 150


# others' volumes


@pytest.fixture(scope="module")
def estate(host: Host) -> Iterator[dict[str, Any]]:
    """What the owner has: a container with its volume, a VM with a disk, a volume of its own, and a backup."""
    ct, told = try_create(host, put_template(host, "small", busybox_tar()))
    assert ct is not None, told
    vm = host.create_vm(scsi0="local:1")
    host.wait(host.post(f"/nodes/{host.node}/vzdump", vmid=ct, storage="local", mode="stop"))
    content = host.get(f"{LOCAL}/content")
    named = {"ct": ct, "vm": vm, **{
        kind: next(row["volid"] for row in content if row.get("vmid") == vmid and row["content"] == of)
        for kind, vmid, of in (("root", ct, "rootdir"), ("disk", vm, "images"), ("backup", ct, "backup"))
    }}  # fmt: skip
    yield named
    with contextlib.suppress(ApiFailure):
        host.wait(host.delete(f"{LOCAL}/content/{named['backup']}"))
    for vmid in (ct, vm):
        host.remove(vmid)


Use = tuple[str, str, dict[str, Any]]

USES: dict[str, Use] = {
    "a container's mount point": ("PUT", "{lxc}/config", {"mp0": "{root},mp=/mnt"}),
    "a container's unused volume": ("PUT", "{lxc}/config", {"unused0": "{root}"}),
    "a new container's mount point": ("POST", "{node}/lxc", {"vmid": "{new}", "ostemplate": "{template}",
                                                             "unprivileged": 1, "mp0": "{root},mp=/mnt"}),
    "a VM's disk": ("PUT", "{qemu}/config", {"scsi1": "{disk}"}),
    "a VM's disk of a container": ("PUT", "{qemu}/config", {"scsi1": "{root}"}),
    "a VM's disk, later": ("POST", "{qemu}/config", {"virtio3": "{disk},cache=none"}),
    "a VM's CD": ("PUT", "{qemu}/config", {"ide2": "{disk},media=cdrom"}),
    "a VM's EFI variables": ("PUT", "{qemu}/config", {"efidisk0": "{disk}"}),
    "a VM's TPM": ("PUT", "{qemu}/config", {"tpmstate0": "{disk}"}),
    "a VM's unused disk": ("PUT", "{qemu}/config", {"unused3": "{disk}"}),
    "an import": ("PUT", "{qemu}/config", {"scsi2": "local:0,import-from={disk}"}),
    "a new VM's disk": ("POST", "{node}/qemu", {"vmid": "{new}", "scsi0": "{disk}"}),
    "a new VM's import": ("POST", "{node}/qemu", {"vmid": "{new}", "scsi0": "local:0,import-from={disk}"}),
    "cloud-init's texts": ("PUT", "{qemu}/config", {"cicustom": "user={disk}"}),
    "a restore": ("POST", "{node}/lxc", {"vmid": "{new}", "ostemplate": "{backup}", "restore": 1, "storage": "local"}),
    "a VM's restore": ("POST", "{node}/qemu", {"vmid": "{new}", "archive": "{backup}"}),
    "a backup's configuration": ("GET", "{node}/vzdump/extractconfig", {"volume": "{backup}"}),
    "a backup's files": ("GET", LOCAL + "/file-restore/list", {"volume": "{backup}", "filepath": "Lw=="}),
    "a backup's file": ("GET", LOCAL + "/file-restore/download", {"volume": "{backup}", "filepath": "Lw=="}),
    "a look at a volume": ("GET", LOCAL + "/content/{disk}", {}),
    "a backup's notes": ("PUT", LOCAL + "/content/{backup}", {"notes": "mine"}),
    "a removal": ("DELETE", LOCAL + "/content/{disk}", {}),
    "a backup's removal": ("DELETE", LOCAL + "/content/{backup}", {}),
    "a copy": ("POST", LOCAL + "/content/{disk}", {"target": "{vm}/vm-{vm}-disk-9.raw"}),
    "a clone": ("POST", "{node}/qemu/{vm}/clone", {"newid": "{new}"}),
    "a move": ("POST", "{node}/qemu/{vm}/move_disk", {"disk": "scsi0", "target-vmid": "{mine}",
                                                      "target-disk": "scsi5"}),
    "a gift": ("POST", "{qemu}/move_disk", {"disk": "scsi0", "target-vmid": "{vm}", "target-disk": "scsi5"}),
    "a backup": ("POST", "{node}/vzdump", {"vmid": "{ct}", "storage": "local"}),
    "a snapshot": ("POST", "{node}/qemu/{vm}/snapshot", {"snapname": "s"}),
    "more space": ("PUT", "{node}/qemu/{vm}/resize", {"disk": "scsi0", "size": "+1G"}),
    "a new volume": ("POST", LOCAL + "/content", {"vmid": "{vm}", "filename": "vm-{vm}-disk-8.raw", "size": "1M"}),
}  # fmt: skip


@pytest.fixture(scope="module")
def thief(host: Host, estate: dict[str, Any]) -> Iterator[tuple[Person, dict[str, str]]]:
    """Somebody with guests of their own, who may use the storage, and the words that stand for things in `USES`."""
    ct, told = try_create(host, put_template(host, "small", busybox_tar()))
    assert ct is not None, told
    vm = host.create_vm(scsi0="local:1")
    new = host.new_vmid()
    words = {"node": f"/nodes/{host.node}", "lxc": host.path(ct), "qemu": host.path(vm), "new": str(new),
             "mine": str(vm), "template": put_template(host, "small", busybox_tar())}  # fmt: skip
    grants = {f"/vms/{vmid}": "PVEVMAdmin" for vmid in (ct, vm, new)}
    with person(host, "thief", {**grants, "/storage": "PVEDatastoreUser", "/sdn": "PVESDNUser"}) as made:
        yield made.by_token(), {**words, **{key: str(value) for key, value in estate.items()}}
    for vmid in (ct, vm):
        host.remove(vmid)


def fill(text: object, words: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: words[found[1]], str(text))


@pytest.mark.parametrize("use", USES)
def test_no_parameter_reaches_anothers_volume(host: Host, thief: tuple[Person, dict[str, str]], use: str) -> None:
    """Without `check_volume` (or the right on the other guest) this fails. Root@pam passes, so it is the right."""
    who, words = thief
    method, path, values = USES[use]
    before = [host.get(host.path(int(words[kind]), "/config")) for kind in ("ct", "vm")]
    filled = {key: fill(value, words) for key, value in values.items()}
    answer = who.call(method, fill(path, words), **filled)
    if use == "a backup" and answer.status_code == 200:
        with pytest.raises(Exception, match=r"(?i)permission|nothing|no guest"):  # the task says that it may not
            host.wait(answer.json()["data"])
        return
    assert answer.status_code == 403, answer.text
    assert [host.get(host.path(int(words[kind]), "/config")) for kind in ("ct", "vm")] == before


def test_the_owner_may(host: Host, estate: dict[str, Any]) -> None:
    """The refusals above are for want of a right on the other guest: with it the same words are let in."""
    vm, ct = estate["vm"], estate["ct"]
    grants = {f"/vms/{vmid}": "PVEVMAdmin" for vmid in (vm, ct)}
    with person(host, "owner", {**grants, "/storage": "PVEDatastoreUser"}) as owner:
        owner.by_token()
        assert owner.status("GET", f"{LOCAL}/content/{estate['disk']}") == 200
        assert owner.status("GET", f"/nodes/{host.node}/vzdump/extractconfig", volume=estate["backup"]) == 200
        assert owner.status("GET", f"{LOCAL}/file-restore/list", volume=estate["backup"], filepath="Lw==") == 200
        assert owner.status("PUT", f"{LOCAL}/content/{estate['backup']}", notes="mine") == 200


# what is begun and then taken away


def begin_console(who: Person, vmid: int, begun: threading.Event) -> None:
    """Returns when the console is closed."""
    with who.socket(f"/bastide/guests/{vmid}/console", {}) as socket:
        begun.set()
        with contextlib.suppress(ConnectionClosed):
            while True:
                socket.recv()


def begin_command(who: Person, vmid: int, begun: threading.Event) -> None:
    """Returns when the command is ended."""
    with who.socket(f"/bastide/guests/{vmid}/exec", {"command": "cat"}) as socket:
        begun.set()
        with contextlib.suppress(ConnectionClosed):
            while True:
                socket.recv()


def begin_upload(who: Person, _vmid: int, begun: threading.Event) -> None:
    """Returns when the upload is refused."""
    end = time.monotonic() + 3 * CUT

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n--x\r\n'
        yield b'Content-Disposition: form-data; name="filename"; filename="' + who.userid.encode() + b'.iso"\r\n\r\n'
        while time.monotonic() < end:
            yield b"a"
            begun.set()
            time.sleep(0.5)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    with contextlib.suppress(httpx.TransportError):
        answer = who.client.post(f"{LOCAL}/upload", content=body(), headers=headers)
        assert answer.status_code == 403, answer.text
    assert time.monotonic() < end


def begin_download(who: Person, vmid: int, begun: threading.Event) -> None:
    """Returns when the download is broken off; reads slower than the file could come."""
    taken, size = 0, 0
    asked = who.client.stream("GET", f"/bastide/guests/{vmid}/file", params={"path": "/big"})
    with contextlib.suppress(httpx.TransportError), asked as answer:
        assert answer.status_code == 200
        size = int(answer.headers["content-length"])
        for chunk in answer.iter_raw():
            begun.set()
            taken += len(chunk)
            time.sleep(len(chunk) / (512 * 1024))  # the whole takes two minutes
    assert taken < size


def begin_events(who: Person, _vmid: int, begun: threading.Event) -> None:
    """Returns when the stream of events ends."""
    with contextlib.suppress(httpx.TransportError), who.client.stream("GET", "/bastide/events") as answer:
        for _ in answer.iter_raw():
            begun.set()


BEGUN: list[Callable[[Person, int, threading.Event], None]] = [
    begin_console, begin_command, begin_upload, begin_download,
]  # fmt: skip


@pytest.mark.timeout(300)
def test_what_was_begun_ends_with_the_right_to_it(host: Host, box: int) -> None:
    """Without `while_allowed` and `Watched` (api/allowed.py) this fails: all goes on for as long as it likes.

    Three people begin all of it; one loses the roles, one the token, one the account, which also ends their events.
    """
    put = host.http.put(f"/bastide/guests/{box}/file", params={"path": "/big"}, content=bytes(64 * 1024 * 1024))
    assert put.status_code == 200, put.text
    grants = {f"/vms/{box}": "PVEVMUser", "/storage/local": "PVEDatastoreAdmin"}
    with contextlib.ExitStack() as stack:
        people = [
            stack.enter_context(person(host, name, grants)).by_token() for name in ("r-role", "r-token", "r-user")
        ]
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(16))
        works = [(who, work) for who in people for work in BEGUN]
        works += [(who, begin_events) for who in people[1:]]
        events = [threading.Event() for _ in works]
        ends = [pool.submit(work, who, box, event) for (who, work), event in zip(works, events, strict=True)]
        assert all(event.wait(CUT) for event in events), [work.__name__ for _, work in works]
        early = [(who.userid, work.__name__, end.exception()) for (who, work), end in zip(works, ends, strict=True)
                 if end.done()]  # fmt: skip
        assert early == [], "all of it is at work"
        for path, role in grants.items():
            host.put("/access/acl", path=path, users=people[0].userid, roles=role, delete=1)
        host.delete(f"/access/users/{people[1].userid}/token/t")
        host.put(f"/access/users/{people[2].userid}", enable=0)
        done, late = concurrent.futures.wait(ends, CUT)
        names = [f"{who.userid} {work.__name__}" for (who, work), end in zip(works, ends, strict=True) if end in late]
        assert names == []
        for end in done:
            end.result()
    assert not [row for row in host.get(f"{LOCAL}/content", content="iso") if "r-" in row["volid"]]
    assert execute(host, box, "true")[0] == 0, "others are not disturbed"


def test_the_next_guest_of_a_vmid_inherits_nothing(host: Host) -> None:
    """Without `forget_path` and `forget_guest` in the removal this fails."""
    template = put_template(host, "small", busybox_tar())
    vmid, told = try_create(host, template)
    assert vmid is not None, told
    host.post("/pools", poolid="inherits")
    host.put("/pools", poolid="inherits", vms=str(vmid))
    job = {"id": "inherits-job", "vmid": str(vmid), "schedule": "sat 03:00", "storage": "local"}
    host.post("/cluster/backup", **job)
    with person(host, "heir", {f"/vms/{vmid}": "PVEVMAdmin", "/pool/inherits": "PVEVMAdmin"}) as heir:
        heir.by_token()
        assert heir.status("GET", host.path(vmid, "/config")) == 200
        host.wait(host.delete(host.path(vmid), purge=1))
        host.wait(
            host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, unprivileged=1, rootfs="local:0")
        )
        try:
            assert heir.status("GET", host.path(vmid, "/config")) == 403
            assert heir.status("POST", host.path(vmid, "/status/start")) == 403
            assert f"/vms/{vmid}" not in {row["path"] for row in host.get("/access/acl")}
            assert host.get("/pools", poolid="inherits")[0]["members"] == []
            jobs = {row["id"]: str(row.get("vmid", "")) for row in host.get("/cluster/backup")}
            assert str(vmid) not in jobs.get("inherits-job", "")
        finally:
            host.remove(vmid)
            host.delete("/pools", poolid="inherits")
            with contextlib.suppress(ApiFailure):
                host.delete("/cluster/backup/inherits-job")


def test_the_next_user_token_and_group_of_a_name_inherit_nothing(host: Host) -> None:
    """Without `grants.forget` in the removals this fails."""
    host.post("/access/groups", groupid="namesakes")
    with person(host, "namesake", {"/": "PVEAuditor"}) as first:
        host.put("/access/acl", path="/", groups="namesakes", roles="PVEAuditor")
        first.by_token(privsep=1)
        host.put("/access/acl", path="/", tokens=f"{first.userid}!t", roles="PVEAuditor")
        header = dict(first.client.headers)
        assert first.status("GET", "/cluster/status") == 200
        host.delete(f"/access/users/{first.userid}/token/t")
        first.by_token(privsep=1)
        assert first.status("GET", "/cluster/status") == 403, "the token's grants are gone with it"
    host.delete("/access/groups/namesakes")
    host.post("/access/groups", groupid="namesakes")
    try:
        with person(host, "namesake") as second:
            second.client.headers = httpx.Headers(header)
            assert second.status("GET", "/version") == 401
            host.put(f"/access/users/{second.userid}", groups="namesakes")
            assert second.by_token().status("GET", "/cluster/status") == 403
    finally:
        host.delete("/access/groups/namesakes")
