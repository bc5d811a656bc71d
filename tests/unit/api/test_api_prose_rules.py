"""Rules that the reference states in words: what lists show, and what a call needs beyond its declared check.

Each rule is a row of a table: what the caller has, and the one right that decides. Without it the list hides, or the
call is refused with that right's name; with it the list shows, or the call gets further. `docs/design/access.md` lists
all rules; those of single options and volumes have tables of their own.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from framework.api import Api, call
from framework.ct_archives import backup_tar
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio

LOCAL = "/nodes/pve/storage/local"
BACKUP = "vzdump-lxc-100-2023_11_14-22_13_20.tar"
SPACE = ("/storage/local", "Datastore.AllocateSpace")
BRIDGE = ("/sdn/zones/localnetwork/vmbr0", "SDN.Use")


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """Container 100 in the pool `team`, VM 101 with a disk, a backup, a user in a group, and tasks of root's."""
    made = await Api.make(tmp_path)
    ct = {"vmid": 100, "ostemplate": TEMPLATE, "unprivileged": 1, "rootfs": "local:1", "hostname": "web"}
    assert await made.wait(await made.data("POST", "/nodes/pve/lxc", **ct, net0="name=eth0,bridge=vmbr0")) == "OK"
    vm = {"vmid": 101, "name": "db", "scsi0": "local:1", "net0": "virtio,bridge=vmbr0"}
    assert await made.wait(await made.data("POST", "/nodes/pve/qemu", **vm)) == "OK"
    await made.data("POST", "/pools", poolid="team")
    await made.data("POST", "/pools", poolid="other")
    await made.data("PUT", "/pools", poolid="team", vms="100", storage="local")
    files = await made.services.rooms.storages.files("local", "backup")
    path = await files.file_path(f"backup/{BACKUP}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(backup_tar())
    await made.data("POST", "/access/groups", groupid="staff")
    await made.data("POST", "/access/users", userid="eve@pve", groups="staff")
    await made.data("PUT", "/access/acl", path="/vms/100", users="eve@pve", roles="PVEVMUser")
    yield made
    await made.services.rooms.tasks.shutdown()


async def give(api: Api, who: str, rights: Mapping[str, str]) -> None:
    """Give privileges, by commas, on paths; each by a role of its own, with those that it had there."""
    for path, privileges in rights.items():
        roleid = f"R-{path.strip('/').replace('/', '-')}"
        known = {row["roleid"] for row in await api.data("GET", "/access/roles")}
        if roleid in known:
            await api.data("PUT", f"/access/roles/{roleid}", privs=privileges, append=1)
        else:
            await api.data("POST", "/access/roles", roleid=roleid, privs=privileges)
        await api.data("PUT", "/access/acl", path=path, users=who, roles=roleid, propagate=1)


async def ada(api: Api, rights: Mapping[str, str]) -> httpx.AsyncClient:
    client: httpx.AsyncClient = await api.token("ada@pve")
    await give(api, "ada@pve", rights)
    return client


LISTS = [
    ("/cluster/resources", {}, '"vmid":100', ("/vms/100", "VM.Audit")),
    ("/cluster/resources", {"type": "vm"}, '"vmid":101', ("/vms/101", "VM.Audit")),
    ("/cluster/resources", {}, '"type":"storage"', ("/storage/local", "Datastore.Audit")),
    ("/cluster/resources", {"type": "storage"}, '"storage":"local"', SPACE),
    ("/cluster/resources", {}, '"type":"pool"', ("/pool/team", "Pool.Audit")),
    ("/cluster/resources", {}, '"type":"sdn"', ("/sdn/zones/localnetwork", "SDN.Audit")),
    ("/cluster/resources", {"type": "node"}, '"maxmem"', ("/nodes/pve", "Sys.Audit")),
    ("/nodes", {}, '"maxmem"', ("/nodes/pve", "Sys.Audit")),
    ("/nodes/pve/lxc", {}, '"web"', ("/vms/100", "VM.Audit")),
    ("/nodes/pve/qemu", {}, '"db"', ("/vms/101", "VM.Audit")),
    ("/bastide/guests", {}, '"web"', ("/vms/100", "VM.Audit")),
    ("/storage", {}, '"local"', ("/storage/local", "Datastore.Audit")),
    ("/nodes/pve/storage", {}, '"local"', SPACE),
    ("/bastide/storage", {}, '"local"', ("/storage/local", "Datastore.Audit")),
    ("/bastide/images", {}, TEMPLATE, ("/storage/local", "Datastore.Audit")),
    ("/cluster/tasks", {}, '"user":"root@pam"', ("/nodes/pve", "Sys.Audit")),
    ("/nodes/pve/tasks", {"source": "all"}, '"user":"root@pam"', ("/nodes/pve", "Sys.Audit")),
    ("/nodes/pve/network", {}, '"iface"', ("/nodes/pve", "Sys.Audit")),
    ("/pools", {}, '"team"', ("/pool/team", "Pool.Audit")),
    ("/access/users", {}, "eve@pve", ("/access/groups/staff", "User.Modify")),
    ("/access/users", {}, "eve@pve", ("/access/groups", "Sys.Audit")),
    ("/access/groups", {}, '"staff"', ("/access/groups/staff", "Group.Allocate")),
    ("/access/groups", {}, '"staff"', ("/access/groups/staff", "Sys.Audit")),
    ("/access/acl", {}, "eve@pve", ("/access", "Sys.Audit")),
    ("/access/acl", {}, "eve@pve", ("/vms/100", "Permissions.Modify")),
]  # fmt: skip


@pytest.mark.parametrize(("path", "query", "shown", "right"), LISTS, ids=str)
async def test_a_list_shows_what_one_may_see(
    api: Api, path: str, query: dict[str, str], shown: str, right: tuple[str, str]
) -> None:
    """Without the list's own look at that right this fails."""
    client = await ada(api, {})
    before = await call(client, "GET", path, **query)
    assert (before.status_code, shown in before.text) == (200, False), before.text
    await give(api, "ada@pve", dict([right]))
    after = await call(client, "GET", path, **query)
    assert (after.status_code, shown in after.text) == (200, True), after.text
    await api.data("PUT", "/access/acl", path=right[0], users="ada@pve", roles="NoAccess")
    assert shown not in (await call(client, "GET", path, **query)).text, "NoAccess takes it away"


async def test_volumes_are_shown_by_what_they_are_and_whose(api: Api) -> None:
    """Without `may_see` this fails."""
    client = await ada(api, {"/storage/local": "Datastore.Audit"})

    async def seen() -> set[str]:
        return {row["content"] for row in (await call(client, "GET", f"{LOCAL}/content")).json()["data"]}

    assert await seen() == {"vztmpl"}
    await give(api, "ada@pve", {"/vms/100": "VM.Config.Disk"})
    assert await seen() == {"vztmpl", "rootdir"}
    await give(api, "ada@pve", {"/vms/100": "VM.Backup", "/storage/local": "Datastore.AllocateSpace"})
    assert await seen() == {"vztmpl", "rootdir", "backup"}


@dataclass(frozen=True)
class Rule:
    """A call that lacks one right; `has` is all else that it needs."""

    name: str
    method: str
    path: str
    right: tuple[str, str]
    values: dict[str, Any] = field(default_factory=dict)
    has: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name} {self.right[1]}"


CT, VM = "/nodes/pve/lxc", "/nodes/pve/qemu"
NEW_CT = {"vmid": 200, "ostemplate": TEMPLATE, "unprivileged": 1, "storage": "local"}
MAKES_CT = {"/vms/200": "VM.Allocate,VM.Config.Disk,VM.Config.Network,VM.Config.Options", SPACE[0]: SPACE[1]}
NEW_VM = {"vmid": 200, "scsi0": "local:1"}
MAKES_VM = {"/vms/200": "VM.Allocate,VM.Config.Disk,VM.Config.Network", "/storage/local": "Datastore.AllocateSpace"}
VOLUME = f"local:backup/{BACKUP}"
NAMED = {"volume": VOLUME, "filepath": "Lw=="}


def without(rights: dict[str, str], path: str, privilege: str) -> dict[str, str]:
    left = [name for name in rights[path].split(",") if name != privilege]
    return {**{key: value for key, value in rights.items() if key != path}, **({path: ",".join(left)} if left else {})}


RULES = [
    Rule("a container is made", "POST", CT, ("/vms/200", "VM.Allocate"), NEW_CT,
         without(MAKES_CT, "/vms/200", "VM.Allocate")),
    Rule("a container takes space", "POST", CT, SPACE, NEW_CT, {"/vms/200": MAKES_CT["/vms/200"],
                                                                "/storage/local": "Datastore.Audit"}),
    Rule("a container has a bridge", "POST", CT, BRIDGE, {**NEW_CT, "net0": "name=eth0,bridge=vmbr0"}, MAKES_CT),
    Rule("a container has a VLAN", "POST", CT, ("/sdn/zones/localnetwork/vmbr0/7", "SDN.Use"),
         {**NEW_CT, "net0": "name=eth0,bridge=vmbr0,tag=7"}, MAKES_CT),
    Rule("a container is privileged", "POST", CT, ("/", "Sys.Modify"), {**NEW_CT, "unprivileged": 0}, MAKES_CT),
    Rule("a container is made in a pool", "POST", CT, ("/pool/other", "VM.Allocate"), {**NEW_CT, "pool": "other"},
         {**without(MAKES_CT, "/vms/200", "VM.Allocate")}),
    Rule("a VM is made", "POST", VM, ("/vms/200", "VM.Allocate"), NEW_VM, without(MAKES_VM, "/vms/200", "VM.Allocate")),
    Rule("a VM takes space", "POST", VM, SPACE, NEW_VM, {"/vms/200": MAKES_VM["/vms/200"]}),
    Rule("a VM has a disk", "POST", VM, ("/vms/200", "VM.Config.Disk"), NEW_VM,
         without(MAKES_VM, "/vms/200", "VM.Config.Disk")),
    Rule("a VM has a bridge", "POST", VM, BRIDGE, {**NEW_VM, "net0": "virtio,bridge=vmbr0"}, MAKES_VM),
    Rule("a VM has randomness of the host's", "PUT", f"{VM}/101/config", ("/mapping/hwrng", "Mapping.Use"),
         {"rng0": "source=/dev/hwrng"}, {"/vms/101": "VM.Config.HWType"}),
    Rule("the order of start is the host's", "PUT", f"{VM}/101/config", ("/", "Sys.Modify"), {"startup": "order=1"},
         {"/vms/101": "VM.Config.Options"}),
    Rule("a CD drive is the host's", "PUT", f"{VM}/101/config", ("/", "Sys.Console"), {"ide2": "cdrom,media=cdrom"},
         {"/vms/101": "VM.Config.CDROM"}),
    Rule("a clone takes space", "POST", f"{CT}/100/clone", SPACE, {"newid": 200},
         {"/vms/100": "VM.Clone", "/vms/200": "VM.Allocate", BRIDGE[0]: BRIDGE[1]}),
    Rule("a clone has a bridge", "POST", f"{CT}/100/clone", BRIDGE, {"newid": 200},
         {"/vms/100": "VM.Clone", "/vms/200": "VM.Allocate", SPACE[0]: SPACE[1]}),
    Rule("a VM's clone takes space", "POST", f"{VM}/101/clone", SPACE, {"newid": 200},
         {"/vms/101": "VM.Clone", "/vms/200": "VM.Allocate", BRIDGE[0]: BRIDGE[1]}),
    Rule("a VM's clone has a bridge", "POST", f"{VM}/101/clone", BRIDGE, {"newid": 200},
         {"/vms/101": "VM.Clone", "/vms/200": "VM.Allocate", SPACE[0]: SPACE[1]}),
    Rule("a volume that moves takes space", "POST", f"{CT}/100/move_volume", SPACE,
         {"volume": "rootfs", "storage": "local"}, {"/vms/100": "VM.Config.Disk"}),
    Rule("a volume goes to another guest", "POST", f"{CT}/100/move_volume", ("/vms/102", "VM.Config.Disk"),
         {"volume": "rootfs", "target-vmid": 102}, {"/vms/100": "VM.Config.Disk", SPACE[0]: SPACE[1]}),
    Rule("a disk that moves takes space", "POST", f"{VM}/101/move_disk", SPACE, {"disk": "scsi0", "storage": "local"},
         {"/vms/101": "VM.Config.Disk"}),
    Rule("a disk goes to another VM", "POST", f"{VM}/101/move_disk", ("/vms/102", "VM.Config.Disk"),
         {"disk": "scsi0", "target-vmid": 102}, {"/vms/101": "VM.Config.Disk", SPACE[0]: SPACE[1]}),
    Rule("a disk that grows takes space", "PUT", f"{VM}/101/resize", SPACE, {"disk": "scsi0", "size": "+1G"},
         {"/vms/101": "VM.Config.Disk"}),
    Rule("a volume that grows takes space", "PUT", f"{CT}/100/resize", SPACE, {"disk": "rootfs", "size": "+1G"},
         {"/vms/100": "VM.Config.Disk"}),
    Rule("all are started", "POST", "/nodes/pve/startall", ("/", "VM.PowerMgmt")),
    Rule("some are started", "POST", "/nodes/pve/startall", ("/vms/100", "VM.PowerMgmt"), {"vms": "100"}),
    Rule("some are stopped", "POST", "/nodes/pve/stopall", ("/vms/101", "VM.PowerMgmt"), {"vms": "101"}),
    Rule("a backup takes space", "POST", "/nodes/pve/vzdump", SPACE, {"vmid": "100", "storage": "local"},
         {"/vms/100": "VM.Backup"}),
    Rule("a backup prunes", "POST", "/nodes/pve/vzdump", ("/storage/local", "Datastore.Allocate"),
         {"vmid": "100", "storage": "local", "prune-backups": "keep-last=1"},
         {"/vms/100": "VM.Backup", SPACE[0]: SPACE[1]}),
    Rule("a backup's speed is the host's", "POST", "/nodes/pve/vzdump", ("/", "Sys.Modify"),
         {"vmid": "100", "storage": "local", "bwlimit": 5}, {"/vms/100": "VM.Backup", SPACE[0]: SPACE[1]}),
    Rule("backups' defaults are a storage's", "GET", "/nodes/pve/vzdump/defaults", SPACE, {"storage": "local"}),
    Rule("a backup's configuration", "GET", "/nodes/pve/vzdump/extractconfig", ("/vms/100", "VM.Backup"),
         {"volume": VOLUME}, {SPACE[0]: SPACE[1]}),
    Rule("a backup is looked into", "GET", f"{LOCAL}/file-restore/list", ("/vms/100", "VM.Backup"), NAMED,
         {SPACE[0]: SPACE[1]}),
    Rule("a file of a backup", "GET", f"{LOCAL}/file-restore/download", SPACE, NAMED, {"/vms/100": "VM.Backup"}),
    Rule("a backup is restored", "POST", CT, ("/vms/100", "VM.Backup"),
         {"vmid": 200, "ostemplate": VOLUME, "restore": 1, "storage": "local"},
         {"/vms/200": "VM.Allocate", SPACE[0]: SPACE[1], "/": "Sys.Modify", BRIDGE[0]: BRIDGE[1]}),
    Rule("backups are pruned", "DELETE", f"{LOCAL}/prunebackups", ("/storage/local", "Datastore.Allocate")),
    Rule("a guest's backups are pruned", "DELETE", f"{LOCAL}/prunebackups", ("/vms/100", "VM.Backup"),
         {"vmid": 100, "prune-backups": "keep-last=1"}, {SPACE[0]: SPACE[1]}),
    Rule("a volume is told of", "GET", f"{LOCAL}/content/backup/{BACKUP}", ("/vms/100", "VM.Backup"), {},
         {SPACE[0]: SPACE[1]}),
    Rule("a volume is annotated", "PUT", f"{LOCAL}/content/backup/{BACKUP}", ("/vms/100", "VM.Backup"), {"notes": "x"},
         {SPACE[0]: SPACE[1]}),
    Rule("a template is removed", "DELETE", f"{LOCAL}/content/{TEMPLATE.partition(':')[2]}",
         ("/storage/local", "Datastore.Allocate"), {}, {SPACE[0]: SPACE[1]}),
    Rule("a volume is made for a guest", "POST", f"{LOCAL}/content", ("/vms/100", "VM.Config.Disk"),
         {"filename": "vm-100-disk-7.raw", "vmid": 100, "size": "1M", "format": "raw"}, {SPACE[0]: SPACE[1]}),
    Rule("a file is fetched", "POST", f"{LOCAL}/download-url", ("/nodes/pve", "Sys.AccessNetwork"),
         {"url": "https://x.test/a.iso", "content": "iso", "filename": "a.iso"},
         {"/storage/local": "Datastore.AllocateTemplate"}),
    Rule("an image is pulled", "POST", "/bastide/images/pull", ("/nodes/pve", "Sys.AccessNetwork"),
         {"source": "https://x.test/a.tar.xz"}, {"/storage/local": "Datastore.AllocateTemplate"}),
    Rule("a job's backups go to a storage", "POST", "/cluster/backup", ("/storage/local", "Datastore.Allocate"),
         {"id": "nightly", "schedule": "daily", "vmid": "100", "storage": "local"}, {"/": "Sys.Modify"}),
    Rule("a job saves a pool", "POST", "/cluster/backup", ("/pool/team", "VM.Backup"),
         {"id": "nightly", "schedule": "daily", "pool": "team", "storage": "local"},
         {"/": "Sys.Modify", "/storage/local": "Datastore.Allocate"}),
    Rule("a pool with its members", "GET", "/pools", ("/pool/team", "Pool.Audit"), {"poolid": "team"}),
    Rule("a guest joins a pool", "PUT", "/pools", ("/vms/101", "VM.Allocate"), {"poolid": "team", "vms": "101"},
         {"/pool/team": "Pool.Allocate"}),
    Rule("a guest is given to a pool by who permits", "PUT", "/pools", ("/vms/101", "Permissions.Modify"),
         {"poolid": "team", "vms": "101"}, {"/pool/team": "Pool.Allocate"}),
    Rule("a storage joins a pool", "PUT", "/pools", ("/storage/local", "Datastore.Allocate"),
         {"poolid": "other", "storage": "local"}, {"/pool/other": "Pool.Allocate"}),
    Rule("a guest leaves a pool for another", "PUT", "/pools", ("/pool/team", "Pool.Allocate"),
         {"poolid": "other", "vms": "100", "allow-move": 1},
         {"/pool/other": "Pool.Allocate", "/vms/100": "VM.Allocate"}),
    Rule("another's rights", "GET", "/access/permissions", ("/access", "Sys.Audit"), {"userid": "eve@pve"}),
    Rule("more is handed out than one has", "PUT", "/access/acl", ("/vms/100", "VM.Audit"),
         {"path": "/vms/100", "users": "eve@pve", "roles": "JustAudit"}, {"/vms/100": "VM.Allocate"}),
    Rule("a console by name", "GET", "/bastide/guests/web/file", ("/vms/100", "VM.Console"), {"path": "/etc/hostname"},
         {"/vms/100": "VM.Audit"}),
    Rule("a VM's file", "GET", "/bastide/guests/db/file", ("/vms/101", "VM.GuestAgent.FileRead"),
         {"path": "/etc/hostname"}, {"/vms/101": "VM.Audit"}),
    Rule("a file into a VM", "PUT", "/bastide/guests/101/file?path=/x", ("/vms/101", "VM.GuestAgent.FileWrite"), {},
         {"/vms/101": "VM.Audit"}),
    Rule("a guest's addresses", "GET", "/bastide/guests/100/addresses", ("/vms/100", "VM.Audit"), {},
         {"/vms/100": "VM.Console"}),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=str)
async def test_a_call_needs_this_right_too(api: Api, rule: Rule) -> None:
    """Without that rule the first call is let in, and this fails."""
    await api.data("POST", "/access/roles", roleid="JustAudit", privs="VM.Audit")
    if "102" in str(rule.values):
        await api.wait(await api.data("POST", rule.path.rpartition("/101/")[0] or CT, vmid=102, ostemplate=TEMPLATE)
                       if "lxc" in rule.path else await api.data("POST", VM, vmid=102))  # fmt: skip
    client = await ada(api, rule.has)
    refused = await call(client, rule.method, rule.path, **rule.values)
    assert refused.status_code == 403, refused.text
    await give(api, "ada@pve", dict([rule.right]))
    answer = await call(client, rule.method, rule.path, **rule.values)
    assert answer.status_code not in (401, 403), answer.text


async def test_a_task_is_its_owners_and_the_auditors(api: Api) -> None:
    """Without `_seen` this fails."""
    upid = (await api.data("GET", "/nodes/pve/tasks", source="all"))[0]["upid"]
    client = await ada(api, {})
    for path in (f"/nodes/pve/tasks/{upid}/log", f"/nodes/pve/tasks/{upid}/status", f"/bastide/tasks/{upid}"):
        assert (await call(client, "GET", path)).status_code == 403, path
    assert (await call(client, "DELETE", f"/nodes/pve/tasks/{upid}")).status_code == 403
    await give(api, "ada@pve", {"/nodes/pve": "Sys.Audit"})
    assert (await call(client, "GET", f"/nodes/pve/tasks/{upid}/log")).status_code == 200
    assert (await call(client, "DELETE", f"/nodes/pve/tasks/{upid}")).status_code == 403
    await give(api, "ada@pve", {"/nodes/pve": "Sys.Modify"})
    assert (await call(client, "DELETE", f"/nodes/pve/tasks/{upid}")).status_code == 200


async def test_a_backup_of_several_leaves_out_whom_one_may_not_save(api: Api) -> None:
    """Without the look at each guest, both are saved and this fails."""
    client = await ada(api, {"/vms/100": "VM.Backup", SPACE[0]: SPACE[1]})
    answer = await call(client, "POST", "/nodes/pve/vzdump", vmid="100,101", storage="local")
    if answer.status_code == 200:
        await api.wait(answer.json()["data"])
    volumes = [row["volid"] for row in await api.data("GET", f"{LOCAL}/content", content="backup")]
    assert not [volid for volid in volumes if "101" in volid.partition("-")[2][:8]]


async def test_one_sees_oneself_and_ones_own_rights(api: Api) -> None:
    client = await ada(api, {})
    assert [row["userid"] for row in (await call(client, "GET", "/access/users")).json()["data"]] == ["ada@pve"]
    assert (await call(client, "GET", "/access/permissions")).status_code == 200
    assert (await call(client, "GET", "/access/users/ada@pve/token")).status_code == 403, "a token is not its user"
