"""What is wrong with a call about backups is told by the name of the parameter that it is wrong with."""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.model.guest import Guest
from framework.api import Api, call
from framework.ct_archives import backup_tar

NAME = "vzdump-lxc-100-2023_11_14-22_13_20.tar"
VOLID = f"local:backup/{NAME}"
GONE = "local:backup/vzdump-lxc-100-2023_11_14-22_13_29.tar"
STORAGE = "/nodes/pve/storage/local"
OWN = "/bastide/backup"
ROOT_FOLDER = "Lw=="

WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "all": 1}, "all"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "exclude": "101"}, "exclude"),
    ("POST", "/nodes/pve/vzdump", {"vmid": ""}, "vmid"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "compress": "xz"}, "compress"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "maxfiles": "1000001"}, "maxfiles"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "maxfiles": "-1"}, "maxfiles"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "exclude-path": ""}, "exclude-path"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "prune-backups": "keep-last=-1"}, "prune-backups"),
    ("POST", "/nodes/pve/vzdump", {"vmid": "100", "fleecing": "1,storage=nowhere"}, "fleecing"),
    ("GET", "/nodes/pve/vzdump/defaults", {"storage": "nowhere"}, "storage"),
    ("GET", "/nodes/pve/vzdump/extractconfig", {"volume": "nowhere:backup/x"}, "volume"),
    ("GET", "/nodes/pve/vzdump/extractconfig", {"volume": GONE}, "volume"),
    ("GET", "/nodes/pve/vzdump/extractconfig", {"volume": "local:iso/x.iso"}, "volume"),
    ("GET", "/nodes/pve/vzdump/extractconfig", {"volume": f"/nowhere/{NAME}"}, "volume"),
    ("POST", "/nodes/pve/lxc", {"vmid": 300, "restore": 1, "ostemplate": GONE}, "ostemplate"),
    ("POST", "/nodes/pve/lxc", {"vmid": 300, "restore": 1, "ostemplate": VOLID, "storage": "nowhere"}, "storage"),
    ("POST", "/nodes/pve/lxc", {"vmid": 300, "restore": 1, "ostemplate": VOLID, "pool": "nobody"}, "pool"),
    ("POST", "/nodes/pve/lxc", {"vmid": 300, "restore": 1, "ostemplate": VOLID, "bwlimit": "inf"}, "bwlimit"),
    ("POST", "/nodes/pve/qemu", {"vmid": 300, "archive": GONE}, "archive"),
    ("POST", "/nodes/pve/qemu", {"vmid": 300, "archive": VOLID}, "archive"),
    ("POST", "/nodes/pve/qemu", {"vmid": 300, "archive": VOLID, "pool": "nobody"}, "pool"),
    ("POST", "/cluster/backup", {"vmid": "100", "schedule": "25:00"}, "schedule"),
    ("PUT", "/cluster/backup/nightly", {"compress": "xz"}, "compress"),
    ("PUT", "/cluster/backup/nightly", {"storage": "nowhere"}, "storage"),
    ("GET", "/cluster/jobs/schedule-analyze", {"schedule": "mon.."}, "schedule"),
    ("GET", f"{STORAGE}/prunebackups", {"prune-backups": "keep-daily=-3"}, "prune-backups"),
    ("DELETE", f"{STORAGE}/prunebackups", {"prune-backups": "keep-all=1,keep-last=2"}, "prune-backups"),
    ("DELETE", f"{STORAGE}/prunebackups", {}, "prune-backups"),
    ("GET", f"{STORAGE}/file-restore/list", {"volume": VOLID, "filepath": "é"}, "filepath"),
    ("GET", f"{STORAGE}/file-restore/list", {"volume": VOLID, "filepath": "L25vd2hlcmU="}, "filepath"),
    ("GET", f"{STORAGE}/file-restore/download", {"volume": VOLID, "filepath": "L25vd2hlcmU="}, "filepath"),
    ("GET", f"{STORAGE}/file-restore/list", {"volume": GONE, "filepath": ROOT_FOLDER}, "volume"),
    ("GET", f"{STORAGE}/file-restore/list", {"volume": "other:backup/x", "filepath": ROOT_FOLDER}, "volume"),
    ("POST", f"{OWN}/verify", {"storage": "nowhere"}, "storage"),
    ("POST", f"{OWN}/verify", {"storage": "local", "volume": GONE}, "volume"),
    ("POST", f"{OWN}/tests", {"vmid": ""}, "vmid"),
    ("POST", f"{OWN}/tests", {"all": 1, "storage": "nowhere"}, "storage"),
    ("POST", f"{OWN}/tests", {"all": 1, "backup-storage": "nowhere"}, "backup-storage"),
    ("POST", f"{OWN}/verify-jobs", {"id": "new", "storage": "nowhere", "schedule": "daily"}, "storage"),
    ("POST", f"{OWN}/test-jobs", {"id": "new", "all": 1, "backup-storage": "nowhere", "schedule": "daily"},
     "backup-storage"),
]  # fmt: skip


@asynccontextmanager
async def _backed_up(folder: Path) -> AsyncIterator[Api]:
    """An API over a container, a backup of it, and a job."""
    made = await Api.make(folder)
    rooms = made.services.rooms
    path = await (await rooms.storages.files("local", "backup")).file_path(f"backup/{NAME}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(backup_tar())
    await rooms.guests.create(Guest(100, "lxc", "pve", {}))
    await made.data("POST", "/cluster/backup", id="nightly", vmid="100", schedule="daily")
    try:
        yield made
    finally:
        await rooms.tasks.shutdown()


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with _backed_up(tmp_path) as made:
        yield made


@pytest.mark.anyio
async def test_what_is_wrong_is_named(api: Api) -> None:
    told = []
    for method, path, values, key in WRONG:
        answer = await call(api.root, method, path, **values)
        if answer.status_code != 400 or list(answer.json()["errors"]) != [key]:
            told.append((method, path, values, key, answer.text))
    assert told == []
    assert {guest.vmid for guest in await api.services.rooms.guests.list()} == {100}


@pytest.mark.anyio
async def test_backups_of_a_guest_that_is_gone_are_pruned(api: Api) -> None:
    rows = await api.data("GET", f"{STORAGE}/prunebackups", vmid=4711, **{"prune-backups": "keep-last=1"})
    assert rows == []
    await api.services.rooms.guests.delete(100)
    upid = await api.data("DELETE", f"{STORAGE}/prunebackups", vmid=100, **{"prune-backups": "keep-last=1"})
    assert await api.wait(upid) == "OK"


TEXTS = st.one_of(
    st.text(max_size=60),
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from(
        [VOLID, GONE, "nowhere:backup/x", "../..", "/", "*:*/0", "keep-last=0", "1,storage=", "{{", "L3g="]
    ),
)
# What would act outside the rooms (scripts, folders, messages) comes without a guest to back up, and new guests with a
# vmid that is taken.
CALLS = [
    ("POST", "/nodes/pve/vzdump", {"stop": "0"}, "vmid exclude pool storage fleecing performance prune-backups"),
    ("POST", "/nodes/pve/vzdump", {"stop": "0"}, "exclude-path notes-template mailto webhook script dumpdir tmpdir"),
    ("GET", "/nodes/pve/vzdump/extractconfig", {}, "volume"),
    ("POST", "/nodes/pve/lxc", {"vmid": "100", "restore": "1"}, "ostemplate storage pool bwlimit rootfs mp0"),
    ("POST", "/nodes/pve/qemu", {"vmid": "100"}, "archive storage pool bwlimit scsi0"),
    ("PUT", "/cluster/backup/nightly", {}, "schedule starttime dow node pool storage delete comment fleecing"),
    ("GET", "/cluster/jobs/schedule-analyze", {}, "schedule starttime iterations"),
    ("GET", f"{STORAGE}/prunebackups", {}, "prune-backups vmid type"),
    ("GET", f"{STORAGE}/file-restore/list", {"volume": VOLID}, "filepath"),
    ("GET", f"{STORAGE}/file-restore/list", {"filepath": ROOT_FOLDER}, "volume"),
    ("POST", f"{OWN}/tests", {}, "vmid all exclude storage backup-storage command timeout"),
]


def _drawn(one: tuple[str, str, dict[str, str], str]) -> st.SearchStrategy[tuple[str, str, dict[str, str]]]:
    method, path, fixed, keys = one
    values = st.dictionaries(st.sampled_from(keys.split()), TEXTS, min_size=1, max_size=3)
    return values.map(lambda some: (method, path, {**some, **fixed}))


@given(st.lists(st.sampled_from(CALLS).flatmap(_drawn), min_size=1, max_size=30))
@settings(max_examples=15, deadline=None)
def test_nothing_is_an_internal_error(calls: list[tuple[str, str, dict[str, str]]]) -> None:
    async def make() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with _backed_up(Path(folder)) as api:
                for method, path, values in calls:
                    answer = await call(api.root, method, path, **values)
                    assert "internal error" not in answer.text, (method, path, values)
                    assert answer.status_code != 400 or answer.json()["errors"], (method, path, values)

    asyncio.run(make())
