"""Containers through the API: a life, what lists show to whom, and what is root@pam's alone."""

from typing import Any

import pytest

from framework.api import Api, call

pytestmark = pytest.mark.anyio

TEMPLATE = "local:vztmpl/debian-12-test_1_amd64.tar.gz"
LXC = "/nodes/pve/lxc"


async def make(api: Api, vmid: int = 100, **options: Any) -> None:
    options = {"unprivileged": "1", "hostname": f"ct{vmid}", **options}
    assert await api.wait(await api.data("POST", LXC, vmid=vmid, ostemplate=TEMPLATE, **options)) == "OK"


async def test_a_life(api: Api) -> None:
    await make(api, net0="name=eth0,bridge=vmbr0,ip=dhcp", memory="256")
    assert (await api.data("GET", "/cluster/resources", type="vm"))[0]["status"] == "stopped"
    assert await api.wait(await api.data("POST", f"{LXC}/100/status/start")) == "OK"
    assert (await api.data("GET", f"{LXC}/100/status/current"))["status"] == "running"
    digest = (await api.data("GET", f"{LXC}/100/config"))["digest"]
    await api.data("PUT", f"{LXC}/100/config", memory="512", digest=digest)
    stale = await call(api.root, "PUT", f"{LXC}/100/config", memory="128", digest=digest)
    assert (stale.status_code, "modified configuration" in stale.json()["message"]) == (500, True)
    assert (await api.data("GET", f"{LXC}/100/config"))["memory"] == 512
    assert await api.wait(await api.data("POST", f"{LXC}/100/status/stop")) == "OK"
    assert await api.wait(await api.data("PUT", f"{LXC}/100/resize", disk="rootfs", size="+1G")) == "OK"
    assert "size=5G" in (await api.data("GET", f"{LXC}/100/config"))["rootfs"]
    assert await api.wait(await api.data("DELETE", f"{LXC}/100", purge="1")) == "OK"
    assert await api.data("GET", LXC) == []
    assert await api.data("GET", "/cluster/nextid") == "100"


async def test_a_taken_vmid(api: Api) -> None:
    await make(api)
    again = await call(api.root, "POST", LXC, vmid=100, ostemplate=TEMPLATE)
    asked = await call(api.root, "GET", "/cluster/nextid", vmid=100)
    assert (again.status_code, "already exists" in again.json()["message"]) == (500, True)
    assert (asked.status_code, list(asked.json()["errors"])) == (400, ["vmid"])


async def test_a_key_that_is_none_is_refused_before_anything_is_made(api: Api) -> None:
    wrong = await call(
        api.root, "POST", LXC, vmid=100, ostemplate=TEMPLATE, **{"ssh-public-keys": "ssh-ed25519 A\ngarbage"}
    )
    assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["ssh-public-keys"])
    assert await api.data("GET", LXC) == []


@pytest.mark.parametrize(
    "options",
    [
        {"mp0": "/etc,mp=/mnt"},
        {"dev0": "/dev/kvm"},
        {"hookscript": "local:snippets/x"},
        {"features": "keyctl=1,fuse=1"},
        {"features": "nesting=1,mount=nfs"},
        {"lock": "backup"},
        {"delete": "features"},
        {"delete": "hookscript"},
        {"revert": "dev0"},
    ],
    ids=str,
)
async def test_what_reaches_the_host_is_for_root_alone(api: Api, options: dict[str, str]) -> None:
    await make(api, features="keyctl=1")
    admin = await api.token(grants={"/": "Administrator"})
    changed = await call(admin, "PUT", f"{LXC}/100/config", **options)
    assert changed.status_code == 403, changed.text
    if not {"delete", "revert"} & options.keys():
        created = await call(admin, "POST", LXC, vmid=101, ostemplate=TEMPLATE, unprivileged="1", **options)
        assert created.status_code == 403
    full = await api.data("POST", "/access/users/root@pam/token/full", privsep="0")
    admin.headers["Authorization"] = f"PVEAPIToken=root@pam!full={full['value']}"
    assert (await call(admin, "PUT", f"{LXC}/100/config", **options)).status_code == 403, "not even its token"


async def test_only_root_may_pass_a_lock_by(api: Api) -> None:
    await make(api)
    admin = await api.token(grants={"/": "Administrator"})
    assert (await call(admin, "POST", f"{LXC}/100/status/start", skiplock="1")).status_code == 403
    assert (await call(admin, "POST", f"{LXC}/100/status/start", skiplock="0")).status_code == 200


async def test_a_privileged_container_needs_sys_modify(api: Api) -> None:
    user = await api.token(grants={"/vms": "PVEVMAdmin", "/storage": "PVEDatastoreAdmin", "/sdn": "PVESDNUser"})
    refused = await call(user, "POST", LXC, vmid=100, ostemplate=TEMPLATE)
    assert refused.json()["message"] == "Permission check failed (/, Sys.Modify)\n"
    made = await call(user, "POST", LXC, vmid=100, ostemplate=TEMPLATE, unprivileged="1", features="nesting=1")
    assert made.status_code == 200, made.text


@pytest.mark.parametrize(
    ("options", "privilege"),
    [
        ({"cores": "1"}, "VM.Config.CPU"),
        ({"memory": "64"}, "VM.Config.Memory"),
        ({"hostname": "x"}, "VM.Config.Network"),
        ({"tags": "x"}, "VM.Config.Options"),
        ({"delete": "description"}, "VM.Config.Options"),
        ({"mp0": "local:1,mp=/a"}, "VM.Config.Disk"),
    ],
    ids=str,
)
async def test_each_option_has_its_own_privilege(api: Api, options: dict[str, str], privilege: str) -> None:
    await make(api)
    others = ["VM.Config.CPU", "VM.Config.Memory", "VM.Config.Network", "VM.Config.Options", "VM.Config.Disk"]
    others.remove(privilege)
    await api.data("POST", "/access/roles", roleid="Without", privs=",".join([*others, "Datastore.AllocateSpace"]))
    user = await api.token(grants={"/": "Without"})
    answer = await call(user, "PUT", f"{LXC}/100/config", **options)
    assert (answer.status_code, answer.json()["message"]) == (
        403,
        f"Permission check failed (/vms/100, {privilege})\n",
    )
    await api.data("PUT", "/access/roles/Without", privs=privilege, append="1")
    assert (await call(user, "PUT", f"{LXC}/100/config", **options)).status_code == 200


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"net0": "name=eth0,bridge=vmbr0"}, "/sdn/zones/localnetwork/vmbr0, SDN.Use"),
        ({"net0": "name=eth0,bridge=vmbr0,tag=7"}, "/sdn/zones/localnetwork/vmbr0/7, SDN.Use"),
        ({"net0": "name=eth0,bridge=vmbr0,firewall=0"}, "/sdn/zones/localnetwork/vmbr0, SDN.Allocate"),
        ({"mp0": "local:1,mp=/a"}, "/storage/local, Datastore.AllocateSpace"),
    ],
)
async def test_others_bridges_and_storages(api: Api, options: dict[str, str], path: str) -> None:
    await make(api)
    user = await api.token(grants={"/vms": "PVEVMAdmin"})
    answer = await call(user, "PUT", f"{LXC}/100/config", **options)
    assert answer.json()["message"] == f"Permission check failed ({path})\n"


async def test_anothers_volume_cannot_be_taken(api: Api) -> None:
    await make(api, 100)
    await make(api, 101)
    user = await api.token(grants={"/vms/101": "PVEVMAdmin", "/storage": "PVEDatastoreUser"})
    answer = await call(user, "PUT", f"{LXC}/101/config", mp0="local:100/vm-100-disk-0.subvol,mp=/stolen")
    assert answer.status_code == 403
    listed = (await user.get("/nodes/pve/storage/local/content")).json()["data"]
    assert {row.get("vmid") for row in listed} == {101, None}


async def test_lists_show_what_the_caller_may_see(api: Api) -> None:
    await make(api, 100)
    await make(api, 101)
    user = await api.token(grants={"/vms/101": "PVEVMUser"})
    for path in (LXC, "/cluster/resources?type=vm"):
        assert [row["vmid"] for row in (await user.get(path)).json()["data"]] == [101]
    assert (await user.get(f"{LXC}/100/config")).status_code == 403
    assert (await user.get("/nodes/pve/tasks?source=all")).json()["data"] == []
    assert (await user.get("/cluster/resources?type=storage")).json()["data"] == []
    foreign = (await api.data("GET", "/nodes/pve/tasks"))[0]["upid"]
    assert (await user.get(f"/nodes/pve/tasks/{foreign}/log")).status_code == 403


async def test_a_space_in_the_vmid_does_not_change_whose_rights_count(api: Api) -> None:
    await make(api, 100)
    user = await api.token(grants={"/vms": "PVEVMAdmin"})
    await api.data("PUT", "/access/acl", path="/vms/100", users="ada@pve", roles="NoAccess")
    assert (await user.get(f"{LXC}/100/config")).status_code == 403
    for vmid in ("%20100", "0100", "+100", "1_00", "100.0"):
        assert (await user.get(f"{LXC}/{vmid}/config")).status_code in (400, 403)
        assert (await api.root.get(f"{LXC}/{vmid}/config")).status_code == 400


async def test_pools_carry_rights_and_members(api: Api) -> None:
    await make(api)
    await api.data("POST", "/pools", poolid="team", comment="ours")
    await api.data("PUT", "/pools", poolid="team", vms="100", storage="local")
    user = await api.token(grants={"/pool/team": "PVEVMUser"})
    assert (await user.get(f"{LXC}/100/config")).status_code == 200
    pool = (await api.data("GET", "/pools", poolid="team"))[0]
    assert {row["type"] for row in pool["members"]} == {"lxc", "storage"}
    refused = await call(api.root, "DELETE", "/pools", poolid="team")
    assert "is not empty" in refused.json()["message"]
    await api.data("PUT", "/pools/team", vms="100", storage="local", delete="1")
    await api.data("DELETE", "/pools/team")


@pytest.mark.parametrize(
    ("method", "path", "values"),
    [
        ("POST", f"{LXC}/100/status/start", {"skiplock": "1"}),
        ("POST", LXC, {"vmid": "101", "ostemplate": TEMPLATE, "ha-managed": "1"}),
        ("POST", "/storage", {"storage": "nas", "type": "pbs", "server": "x", "datastore": "x"}),
        ("POST", "/nodes/pve/status", {"command": "reboot"}),
    ],
    ids=str,
)
async def test_what_is_not_built_says_so(api: Api, method: str, path: str, values: dict[str, str]) -> None:
    await make(api)
    answer = await call(api.root, method, path, **values)
    assert answer.status_code == 501
    assert "not implemented" in answer.json()["message"]


async def test_a_picture_of_what_is_measured(api: Api) -> None:
    await make(api)
    for path in (f"{LXC}/100/rrd", "/nodes/pve/rrd"):
        answer = await api.data("GET", path, timeframe="hour", ds="cpu,netin")
        assert answer["image"].encode("latin-1").startswith(b"\x89PNG")
    wrong = await call(api.root, "GET", f"{LXC}/100/rrd", timeframe="hour", ds="cpu,nonsense")
    assert (wrong.status_code, list(wrong.json()["errors"])) == (400, ["ds"])
