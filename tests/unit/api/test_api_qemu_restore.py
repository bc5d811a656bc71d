"""`POST /nodes/{node}/qemu` with an archive: who may restore what over what, and what a backup may not bring."""

from pathlib import Path
from typing import Any

import pytest

from framework.api import Api, call
from framework.vma_files import vma

pytestmark = pytest.mark.anyio

QEMU = "/nodes/pve/qemu"
NAME = "vzdump-qemu-100-2023_11_14-22_13_20.vma"
VOLID = f"local:backup/{NAME}"
TEXT = """cores: 2
name: saved
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0
scsi0: local:100/vm-100-disk-0.raw,size=64K
vmgenid: 11111111-2222-3333-4444-555555555555
#qmdump#map:scsi0:drive-scsi0:local:raw:
"""


@pytest.fixture
async def backup(api: Api) -> Path:
    """A backup of VM 100 on `local`."""
    await api.services.rooms.storages.update("local", {"format": "raw"})
    files = await api.services.rooms.storages.files("local", "backup")
    path = await files.file_path(f"backup/{NAME}")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path)
    return path


def write(path: Path, more: str = "") -> None:
    path.write_bytes(vma({"qemu-server.conf": (TEXT + more).encode()}, {"drive-scsi0": b"data" + bytes(65532)}))


async def restored(api: Api, **options: Any) -> dict[str, Any]:
    upid = await api.data("POST", QEMU, **{"vmid": 100, "archive": VOLID, **options})
    assert (await api.wait(upid)).startswith(("OK", "WARNINGS"))
    return dict(await api.data("GET", f"{QEMU}/{options.get('vmid', 100)}/config"))


async def test_root_restores(api: Api, backup: Path) -> None:
    config = await restored(api, vmid=101, cores=4, **{"live-restore": 0})
    assert (config["cores"], config["name"]) == (4, "saved")
    assert config["scsi0"] == "local:101/vm-101-disk-0.raw,size=64K"
    config = await restored(api, vmid=102, archive=str(backup), unique=1)
    assert "BC:24:11:00:00:01" not in config["net0"]
    taken = await call(api.root, "POST", QEMU, vmid=101, archive=VOLID)
    assert "unable to restore VM 101 - VM 101 already exists on node 'pve'" in taken.json()["message"]
    await restored(api, vmid=101, force=1)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"force": 1}, "archive"),
        ({"unique": 1}, "archive"),
        ({"archive": VOLID, "scsi1": "local:1"}, "scsi1"),
        ({"archive": VOLID, "cdrom": "none"}, "ide2"),
        ({"archive": VOLID, "storage": "nowhere"}, "storage"),
        ({"archive": "-"}, "archive"),
        ({"archive": "local:backup/nonsense"}, "archive"),
        ({"archive": "/etc/passwd"}, "archive"),
    ],
)
async def test_what_does_not_go_together(api: Api, backup: Path, options: dict[str, Any], key: str) -> None:
    assert backup.exists()
    answer = await call(api.root, "POST", QEMU, vmid=101, **options)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, [key]), answer.text


async def test_a_stream_is_not_restored_live(api: Api, backup: Path) -> None:
    assert backup.exists()
    answer = await call(api.root, "POST", QEMU, vmid=101, archive=VOLID, **{"live-restore": 1})
    assert "live-restore is not possible" in answer.json()["message"]


SPACE = {"/storage/local": "PVEDatastoreUser"}
NET = {"/sdn/zones/localnetwork/vmbr0": "PVESDNUser"}
OWN = {"/vms/100": "PVEVMAdmin"}
OTHER = {"/vms/101": "PVEVMAdmin"}


@pytest.mark.parametrize(
    ("grants", "vmid", "missing"),
    [
        (OWN | SPACE | NET, 100, None),
        (OWN | NET, 100, "Datastore.AllocateSpace"),
        (OWN | SPACE, 100, "SDN.Use"),
        (SPACE | NET, 100, "VM.Allocate"),
        (OTHER | SPACE | NET, 101, "VM.Backup"),
        (OTHER | SPACE | NET | {"/vms/100": "PVEVMUser"}, 101, None),
    ],
    ids=str,
)
async def test_who_may_restore(api: Api, backup: Path, grants: dict[str, str], vmid: int, missing: str | None) -> None:
    assert backup.exists()
    client = await api.token(grants=grants)
    answer = await call(client, "POST", QEMU, vmid=vmid, archive=VOLID)
    if missing is None:
        assert answer.status_code == 200, answer.text
        assert await api.wait(answer.json()["data"]) == "OK"
    else:
        assert (answer.status_code, missing in answer.json()["message"]) == (403, True), answer.text
        assert await api.data("GET", QEMU) == []


async def test_who_may_back_a_vm_up_may_restore_it(api: Api, backup: Path) -> None:
    assert backup.exists()
    await restored(api)
    client = await api.token(grants={"/vms/100": "PVEVMUser"} | SPACE | NET)
    assert (await call(client, "POST", QEMU, vmid=100, archive=VOLID)).status_code == 403
    answer = await call(client, "POST", QEMU, vmid=100, archive=VOLID, force=1)
    assert answer.status_code == 200, answer.text
    assert await api.wait(answer.json()["data"]) == "OK"
    refused = await call(client, "POST", QEMU, vmid=100, archive=VOLID, force=1, args="-snapshot")
    assert refused.status_code == 403


async def test_a_pool_gives_no_right_to_replace_others(api: Api, backup: Path) -> None:
    assert backup.exists()
    await restored(api)
    await api.data("POST", "/pools", poolid="mine")
    client = await api.token(grants={"/pool/mine": "PVEVMAdmin"} | SPACE | NET)
    answer = await call(client, "POST", QEMU, vmid=100, archive=VOLID, force=1, pool="mine")
    assert (answer.status_code, "/vms/100" in answer.json()["message"]) == (403, True)


async def test_a_path_is_roots(api: Api, backup: Path) -> None:
    client = await api.token(grants={"/": "Administrator"})
    answer = await call(client, "POST", QEMU, vmid=101, archive=str(backup))
    assert (answer.status_code, "only root" in answer.json()["message"]) == (403, True)


ROOTS = """args: -device evil
hookscript: local:snippets/x.sh
hostpci0: 0000:01:00.0
parallel0: /dev/parport0
serial0: /dev/ttyS0
usb0: host=1234:5678
scsi1: /dev/sda
ide2: local:iso/theirs.iso,media=cdrom
cicustom: user=local:snippets/theirs.yaml
"""


async def test_what_is_roots_does_not_come_with_a_backup(api: Api, backup: Path) -> None:
    write(backup, ROOTS)
    client = await api.token(grants=OWN | SPACE | NET)
    answer = await call(client, "POST", QEMU, vmid=100, archive=VOLID)
    assert answer.status_code == 200, answer.text
    assert (await api.wait(answer.json()["data"])).startswith("WARNINGS")
    config = await api.data("GET", f"{QEMU}/100/config")
    left = {"args", "hookscript", "hostpci0", "parallel0", "serial0", "usb0", "scsi1", "cicustom"} & set(config)
    assert left == set()
    assert config["ide2"] == "none,media=cdrom"
    config = await restored(api, force=1)
    assert config["args"] == "-device evil"
    assert "scsi1" not in config
