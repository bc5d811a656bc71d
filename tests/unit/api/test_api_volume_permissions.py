"""Who may look at, change and remove which volume, and what those are told who may not."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from framework.api import Api, call
from framework.ct_archives import backup_tar

pytestmark = pytest.mark.anyio

CONTENT = "/nodes/pve/storage/local/content"
BACKUP = "backup/vzdump-lxc-100-2023_11_14-22_13_20.tar"
ODD = "backup/vzdump-lxc-100-2023_11_14-22_13_21.tar"
ISO = "iso/disc.iso"
DISK = "100/vm-100-disk-9.raw"
SPACE, AUDIT, ALLOCATE = "Datastore.AllocateSpace", "Datastore.Audit", "Datastore.Allocate"


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    """A backup and a disk of guest 100, and an ISO image."""
    made = await Api.make(tmp_path)
    files = await made.services.rooms.storages.files("local", "backup")
    for name in (BACKUP, ISO):
        path = await files.file_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(backup_tar())
    await made.data("POST", CONTENT, filename="vm-100-disk-9.raw", vmid=100, size="1M", format="raw")
    yield made
    await made.services.rooms.tasks.shutdown()


async def _holds(api: Api, storage: str, guest: str) -> httpx.AsyncClient:
    """A client with privileges on the storage, and others on guest 100."""
    grants = {}
    for number, (path, privileges) in enumerate((("/storage/local", storage), ("/vms/100", guest))):
        if privileges:
            await api.data("POST", "/access/roles", roleid=f"R{number}", privs=privileges)
            grants[path] = f"R{number}"
    client: httpx.AsyncClient = await api.token(grants=grants)
    return client


@pytest.mark.parametrize(
    ("volume", "storage", "guest", "missing"),
    [
        (BACKUP, SPACE, "VM.Backup", None),
        (BACKUP, ALLOCATE, "", None),
        (BACKUP, SPACE, "VM.Config.Disk", "(/vms/100, VM.Backup)"),
        (BACKUP, AUDIT, "VM.Backup", f"(/storage/local, {SPACE})"),
        (BACKUP, "", "VM.Backup", f"(/storage/local, {SPACE})"),
        (ISO, AUDIT, "", None),
        (ISO, SPACE, "", None),
        (ISO, "", "VM.Backup", f"(/storage/local, {SPACE}|{AUDIT})"),
        (DISK, AUDIT, "VM.Config.Disk", None),
        (DISK, ALLOCATE, "", None),
        (DISK, SPACE, "VM.Config.Disk", f"(/storage/local, {AUDIT})"),
        (DISK, AUDIT, "VM.Backup", "(/vms/100, VM.Config.Disk)"),
    ],
)
async def test_what_looking_takes(api: Api, volume: str, storage: str, guest: str, missing: str | None) -> None:
    client = await _holds(api, storage, guest)
    answer = await call(client, "GET", f"{CONTENT}/local:{volume}")
    assert answer.status_code == (200 if missing is None else 403), answer.text
    assert (missing or "") in answer.text
    listed = await call(client, "GET", CONTENT)
    if listed.status_code == 200:  # what the list itself takes is less
        assert (f"local:{volume}" in [row["volid"] for row in listed.json()["data"]]) == (missing is None)


@pytest.mark.parametrize(
    ("volume", "storage", "guest", "missing"),
    [
        (BACKUP, SPACE, "VM.Backup", None),
        (BACKUP, ALLOCATE, "", None),
        (BACKUP, SPACE, "", "(/vms/100, VM.Backup)"),
        (BACKUP, AUDIT, "VM.Backup", f"(/storage/local, {SPACE})"),
        (ISO, SPACE, "VM.Backup", f"(/storage/local, {ALLOCATE})"),
        (DISK, SPACE, "VM.Config.Disk,VM.Backup", f"(/storage/local, {ALLOCATE})"),
    ],
)
async def test_what_removing_takes(api: Api, volume: str, storage: str, guest: str, missing: str | None) -> None:
    client = await _holds(api, storage, guest)
    changing = {"protected": 1} if volume == BACKUP else {"notes": "x"}
    for method, values in (("PUT", changing), ("PUT", {"protected": 0}), ("DELETE", {})):
        answer = await call(client, method, f"{CONTENT}/local:{volume}", **values)
        assert (answer.status_code == 403) == (missing is not None), answer.text
        assert (missing or "") in answer.text
    if missing is None:
        assert await api.wait(answer.json()["data"]) == "OK"
    there = await call(api.root, "GET", f"{CONTENT}/local:{volume}")
    assert (there.status_code == 200) == (missing is not None)


@pytest.mark.parametrize(
    ("storage", "guest", "missing"),
    [
        (SPACE, "VM.Backup", None),
        (ALLOCATE, "", None),
        (SPACE, "VM.Audit", "(/vms/100, VM.Backup)"),
        (AUDIT, "VM.Backup", f"(/storage/local, {SPACE})"),
    ],
)
async def test_what_looking_into_a_backup_takes(api: Api, storage: str, guest: str, missing: str | None) -> None:
    client = await _holds(api, storage, guest)
    inside = {"volume": f"local:{BACKUP}", "filepath": "Lw=="}
    for path, values in (
        ("vzdump/extractconfig", {"volume": f"local:{BACKUP}"}),
        ("storage/local/file-restore/list", inside),
        ("storage/local/file-restore/download", {**inside, "filepath": "L2V0Yy9vcy1yZWxlYXNl"}),
    ):
        answer = await call(client, "GET", f"/nodes/pve/{path}", **values)
        assert answer.status_code == (200 if missing is None else 403), (path, answer.text)
        assert missing is None or missing in answer.text


@pytest.mark.parametrize(
    ("storage", "guest", "vmid", "missing"),
    [
        (SPACE, "VM.Backup", {"vmid": 100}, None),
        (ALLOCATE, "", {}, None),
        (ALLOCATE, "", {"vmid": 100}, None),
        (SPACE, "VM.Backup", {}, f"(/storage/local, {ALLOCATE})"),
        (SPACE, "", {"vmid": 100}, "(/vms/100, VM.Backup)"),
        (AUDIT, "VM.Backup", {"vmid": 100}, f"(/storage/local, {SPACE})"),
    ],
)
async def test_what_pruning_takes(
    api: Api, storage: str, guest: str, vmid: dict[str, int], missing: str | None
) -> None:
    client = await _holds(api, storage, guest)
    keep = {"prune-backups": "keep-last=1"}
    answer = await call(client, "DELETE", "/nodes/pve/storage/local/prunebackups", **keep, **vmid)
    assert answer.status_code == (200 if missing is None else 403), answer.text
    assert missing is None or missing in answer.text


@pytest.mark.parametrize("volid", [f"local:{ODD}", f"elsewhere:{BACKUP}"])
async def test_nobody_learns_what_is_not_there(api: Api, volid: str) -> None:
    """What is there and what is not looks alike to whoever may see nothing of the storage."""
    blind, seeing = await api.token("blind@pve"), await api.token("seeing@pve", grants={"/": "PVEAuditor"})
    storage = volid.partition(":")[0]
    path = f"/nodes/pve/storage/{storage}/content/{volid}"
    for method in ("GET", "DELETE"):
        assert (await call(blind, method, path)).status_code == 403
    for place, key in (("vzdump/extractconfig", "volume"), (f"storage/{storage}/file-restore/list", "volume")):
        values = {key: volid, **({"filepath": "Lw=="} if "list" in place else {})}
        assert (await call(blind, "GET", f"/nodes/pve/{place}", **values)).status_code == 403
        assert "does not exist" in (await call(seeing, "GET", f"/nodes/pve/{place}", **values)).text


@pytest.mark.parametrize(("privilege", "most"), [(SPACE, 5), (f"{SPACE},{ALLOCATE}", None)])
async def test_how_many_backups_somebody_may_protect(api: Api, privilege: str, most: int | None) -> None:
    files = await api.services.rooms.storages.files("local", "backup")
    names = [f"backup/vzdump-lxc-100-2024_01_01-00_00_0{second}.tar" for second in range(6)]
    for name in names:
        (await files.file_path(name)).write_bytes(b"a backup")
    client = await _holds(api, privilege, "VM.Backup")
    codes = [(await call(client, "PUT", f"{CONTENT}/local:{name}", protected=1)).status_code for name in names]
    assert [code == 200 for code in codes] == [True] * 5 + [most is None]
