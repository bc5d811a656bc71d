"""LVM and ZFS on disks of the machine: what is asked of the tools in which order, what is refused, what is undone."""

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.host import block_devices, disk_labels, volume_groups, zpools
from bastide.host.block_devices import BlockDevice
from bastide.host.run import Completed
from framework.api import Api, call

pytestmark = pytest.mark.anyio

NODE = "/nodes/pve/disks"


@dataclass
class Machine:
    """Disks that are names only, and tools that keep in mind what they were told."""

    disks: list[BlockDevice] = field(
        default_factory=lambda: [BlockDevice(f"/dev/sd{letter}", f"8:{n}", 1000) for n, letter in enumerate("xyz")]
    )
    groups: dict[str, str] = field(default_factory=dict)
    pools: dict[str, str] = field(default_factory=dict)
    zpools: dict[str, list[str]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    broken: str = ""

    async def listed(self, *, probe: bool = False) -> list[BlockDevice]:
        members = set(self.groups.values()) | {path for paths in self.zpools.values() for path in paths}
        return [replace(disk, fstype="LVM2_member") if disk.path in members else disk for disk in self.disks]

    @contextlib.contextmanager
    def held(self, device: BlockDevice) -> Iterator[int]:
        yield -1

    async def wipe(self, _descriptor: int, device: BlockDevice) -> None:
        self.done.append(f"wipe {device.path}")

    async def run(self, argv: Sequence[str], **_: Any) -> Completed:
        words = list(argv)
        if "--config" in words:
            del words[words.index("--config") : words.index("--config") + 2]
        if words[0] == self.broken:
            raise HostFailure(f"{self.broken} is broken")
        told = getattr(self, f"_{words[0]}", self._nothing)(words)
        if words[0] not in ("pvs", "lvs") and words[:2] != ["zpool", "list"]:
            self.done.append(" ".join(words))
        return Completed(0, told.encode(), "")

    def _nothing(self, _words: list[str]) -> str:
        return ""

    def _pvs(self, _words: list[str]) -> str:
        rows = [
            {"vg_name": name, "vg_size": "9", "vg_free": "1", "lv_count": str(int(name in self.pools.values())),
             "pv_name": path, "pv_size": "9", "pv_free": "1"}
            for name, path in self.groups.items()
        ]  # fmt: skip
        return json.dumps({"report": [{"pv": rows}]})

    def _lvs(self, _words: list[str]) -> str:
        rows = [{"lv_name": name, "vg_name": group, "lv_size": "5"} for name, group in self.pools.items()]
        return json.dumps({"report": [{"lv": rows}]})

    def _vgcreate(self, words: list[str]) -> str:
        self.groups[words[-2]] = words[-1]
        return ""

    def _vgremove(self, words: list[str]) -> str:
        del self.groups[words[-1]]
        return ""

    def _lvcreate(self, words: list[str]) -> str:
        self.pools[words[words.index("--name") + 1]] = words[-1]
        return ""

    def _lvremove(self, words: list[str]) -> str:
        del self.pools[words[-1].partition("/")[2]]
        return ""

    def _zpool(self, words: list[str]) -> str:
        if words[1] == "create":
            self.zpools[words[7]] = [word for word in words[8:] if word.startswith("/dev/")]
        elif words[1] == "destroy":
            del self.zpools[words[-1]]
        elif words[1] == "status":
            devices = "".join(f"\t  {path} ONLINE 0 0 0\n" for path in self.zpools[words[-1]])
            return (
                f"  pool: {words[-1]}\n state: ONLINE\nconfig:\n\n\t{words[-1]} ONLINE 0 0 0\n{devices}\nerrors: none\n"
            )
        return "".join(f"{name}\t9\t1\t8\t0\t1.00\tONLINE\n" for name in self.zpools)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine()
    monkeypatch.setattr(block_devices, "disks", made.listed)
    monkeypatch.setattr(disk_labels, "held", made.held)
    monkeypatch.setattr(disk_labels, "wipe", made.wipe)
    monkeypatch.setattr(volume_groups, "run", made.run)
    monkeypatch.setattr(zpools, "run", made.run)
    return made


@pytest.fixture
async def api(tmp_path: Path, machine: Machine) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


async def end(api: Api, method: str, path: str, **values: Any) -> str:
    return await api.wait(await api.data(method, f"{NODE}{path}", **values))


async def refusal(api: Api, method: str, path: str, **values: Any) -> str:
    answer = await call(api.root, method, f"{NODE}{path}", **values)
    assert answer.status_code != 200, answer.text
    return answer.text


async def test_a_volume_group(api: Api, machine: Machine) -> None:
    assert await end(api, "POST", "/lvm", name="fast", device="/dev/sdx") == "OK"
    assert machine.done == ["wipe /dev/sdx", "pvcreate -- /dev/sdx", "vgcreate -- fast /dev/sdx"]
    (group,) = (await api.data("GET", f"{NODE}/lvm"))["children"]
    assert (group["name"], group["children"][0]["name"]) == ("fast", "/dev/sdx")
    assert "already exists" in await refusal(api, "POST", "/lvm", name="fast", device="/dev/sdy")
    assert "belongs to an LVM volume group" in await refusal(api, "POST", "/lvm", name="other", device="/dev/sdx")
    machine.done.clear()
    assert await end(api, "DELETE", "/lvm/fast", **{"cleanup-disks": 1}) == "OK"
    assert machine.done == [
        "vgchange --activate n -- fast", "vgremove --yes -- fast", "pvremove -- /dev/sdx", "wipe /dev/sdx",
    ]  # fmt: skip
    assert "does not exist" in await refusal(api, "DELETE", "/lvm/fast")


async def test_a_thin_pool(api: Api, machine: Machine) -> None:
    assert await end(api, "POST", "/lvmthin", name="data", device="/dev/sdx") == "OK"
    assert machine.done[-1].startswith("lvcreate --yes --type thin-pool --extents 100%FREE")
    (pool,) = await api.data("GET", f"{NODE}/lvmthin")
    assert (pool["lv"], pool["vg"], pool["lv_size"]) == ("data", "data", 5)
    machine.done.clear()
    assert await end(api, "DELETE", "/lvmthin/data", **{"volume-group": "data"}) == "OK"
    assert machine.done == ["lvremove --yes -- data/data"]
    assert machine.groups == {"data": "/dev/sdx"}


async def test_a_thin_pool_that_cannot_be_made(api: Api, machine: Machine) -> None:
    machine.broken = "lvcreate"
    assert await end(api, "POST", "/lvmthin", name="data", device="/dev/sdx") == "lvcreate is broken"
    assert machine.done[-2:] == ["pvremove -- /dev/sdx", "wipe /dev/sdx"]
    assert machine.groups == {}


async def test_a_pool_of_several_disks(api: Api, machine: Machine) -> None:
    devices = {"devices": "/dev/sdx,/dev/sdy", "raidlevel": "mirror"}
    assert await end(api, "POST", "/zfs", name="tank", **devices) == "OK"
    assert machine.done[-1].endswith("-- tank mirror /dev/sdx /dev/sdy")
    (pool,) = await api.data("GET", f"{NODE}/zfs")
    assert (pool["name"], pool["alloc"], pool["dedup"]) == ("tank", 1, 1.0)
    told = await api.data("GET", f"{NODE}/zfs/tank")
    assert [row["name"] for row in told["children"][0]["children"]] == ["/dev/sdx", "/dev/sdy"]
    machine.done.clear()
    assert await end(api, "DELETE", "/zfs/tank", **{"cleanup-disks": 1}) == "OK"
    assert machine.done == [
        "zpool status -pP -- tank", "zpool destroy -- tank", "zpool labelclear -f -- /dev/sdx",
        "zpool labelclear -f -- /dev/sdy", "wipe /dev/sdx", "wipe /dev/sdy",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"devices": "/dev/sdx", "raidlevel": "mirror"},
        {"devices": "/dev/sdx,/dev/sdq", "raidlevel": "mirror"},
        {"devices": "/dev/sdx", "raidlevel": "single", "draid-config": "data=1,spares=0"},
    ],
)
async def test_pools_that_cannot_be(api: Api, machine: Machine, values: dict[str, str]) -> None:
    answer = await call(api.root, "POST", f"{NODE}/zfs", name="tank", **values)
    assert answer.status_code == 400
    assert machine.done == []


async def test_adding_a_storage_needs_its_permission(api: Api, machine: Machine) -> None:
    await api.data("POST", "/access/roles", roleid="Disks", privs="Sys.Audit,Sys.Modify")
    client = await api.token(grants={"/": "Disks"})
    wanted = {"name": "fast", "device": "/dev/sdx"}
    answer = await call(client, "POST", f"{NODE}/lvm", add_storage=1, **wanted)
    assert (answer.status_code, "Datastore.Allocate" in answer.text) == (403, True)
    assert (await call(client, "POST", f"{NODE}/lvm", **wanted)).status_code == 200
    assert (await call(client, "PUT", f"{NODE}/wipedisk", disk="/dev/sdy")).status_code == 403


def test_names_of_devices() -> None:
    disk = BlockDevice("/dev/sdx", "8:0", 1)
    with pytest.raises(InvalidParameter, match="devices"):
        block_devices.find([disk], "/dev/nothing", "devices")
