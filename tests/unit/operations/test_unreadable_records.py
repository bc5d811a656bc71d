"""One record that cannot be read: everything else works, and nothing of what it was about is anybody else's."""

import ast
import json
import re
from pathlib import Path

import pytest

import bastide
from bastide.base.errors import Unreadable, WrongState
from bastide.base.layout import Layout
from bastide.model.access import ROOT
from bastide.model.guest import Guest
from bastide.operations import content, records, recover
from bastide.operations.records import READERS
from bastide.operations.rooms import Rooms
from bastide.state import store as store_module
from bastide.state.checked import CheckedStore, fault
from bastide.state.memory import MemoryStore
from bastide.state.store import Entry
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

CONFIG = {"hostname": "web", "rootfs": "local:100/vm-100-disk-0.raw,size=1G", "unprivileged": 1}
GOOD = Guest(100, "lxc", "pve", CONFIG, first_id=20_000_000).to_json()

BROKEN = {
    "torn": GOOD[:-20],
    "no JSON": "\x00\x00\x00",
    "a list": "[]",
    "unknown key": GOOD[:-1] + ', "newer": 1}',
    "wrong type": GOOD.replace('"snapshots": []', '"snapshots": {}'),
    "missing key": json.dumps({"kind": "lxc"}),
    "wrong kind": GOOD.replace('"lxc"', '"wasm"'),
    "unknown option": GOOD.replace('"hostname"', '"from_the_future"'),
    "wrong option": GOOD.replace('"unprivileged": 1', '"unprivileged": "maybe"'),
}


async def rooms_with(tmp_path: Path, **entries: str) -> Rooms:
    inner = MemoryStore()
    for key, value in entries.items():
        await inner.put(key, value)
    return await fake_rooms(tmp_path, store=await CheckedStore.over(inner, READERS))


def test_the_record_that_the_others_are_made_of_is_good() -> None:
    assert fault(READERS, Entry("guest/100", GOOD, 1)) is None


@pytest.mark.parametrize("name", BROKEN)
async def test_a_guests_record_hides_no_others(tmp_path: Path, name: str) -> None:
    """Without `CheckedStore` this fails: listing the guests raises."""
    other = Guest(101, "lxc", "pve", {"hostname": "db"}).to_json()
    rooms = await rooms_with(tmp_path, **{"guest/100": BROKEN[name], "guest/101": other})
    assert [guest.vmid for guest in await rooms.guests.list()] == [101]
    assert rooms.guests.unreadable() == {100}
    assert await rooms.guests.next_vmid() == 102
    with pytest.raises(Unreadable, match="guest/100"):
        await rooms.guests.get(100)
    with pytest.raises(Unreadable):
        await rooms.guests.create(Guest(100, "lxc", "pve", {}))
    assert records.find(rooms, "guest/100").entry.value == BROKEN[name]


async def test_a_recovery_leaves_what_may_be_its(tmp_path: Path) -> None:
    """Without the look at `unreadable` in recover.py this fails: the volume in the lock's journal is freed."""
    lock = json.dumps({"owner": "x", "action": "create", "since": 1, "volumes": ["local:100/vm-100-disk-0.raw"]})
    marks = {f"{name}/100": "" for name in ("frozen", "standing", "still", "templating", "backup-copy", "backup-stop")}
    marks |= {"comparing/100": "web", "trying/100": "web"}
    rooms = await rooms_with(tmp_path, **{"guest/100": GOOD[:-1] + ', "newer": 1}', "lock/guest/100": lock, **marks})
    files = rooms.layout.state / "storage/images/100"
    files.mkdir(parents=True)
    (files / "vm-100-disk-0.raw").write_text("data")
    await recover.let_go(rooms)
    await recover.recover(rooms)
    assert (files / "vm-100-disk-0.raw").read_text() == "data"
    assert (await rooms.locks.get(100)) is not None
    with pytest.raises(WrongState, match="cannot be read"):
        await content.delete_volume(rooms, ROOT, "local:100/vm-100-disk-0.raw")
    await records.repair(rooms, "guest/100", GOOD)
    assert [guest.vmid for guest in await rooms.guests.list()] == [100]


async def test_its_range_of_ids_is_nobody_elses(tmp_path: Path) -> None:
    rooms = await rooms_with(tmp_path, **{"guest/100": GOOD.replace('"snapshots": []', "")})
    assert 20_000_000 in await rooms.guests.taken_ids()


async def test_a_storages_record_keeps_its_secrets(tmp_path: Path) -> None:
    local = {
        "storage/local": json.dumps({"storage": "local", "type": "dir", "path": str(tmp_path), "content": "vztmpl"})
    }
    rooms = await rooms_with(tmp_path / "a", **{"storage/nas": '{"storage": "nas", "type": "unheard-of"}', **local})
    folder = Layout(tmp_path / "a").state / "secrets/storage"
    folder.mkdir(parents=True)
    (folder / "nas.password").write_text("x")
    await rooms.storages.start()
    assert (folder / "nas.password").exists()
    assert [storage.config.storage for storage in await rooms.storages.all()] == ["local"]


@pytest.mark.parametrize("key", ["user/ada@pve", "token/ada@pve!t", "grant/x", "role/mine", "group/g", "pool/p"])
async def test_the_others_may_still_log_in(tmp_path: Path, key: str) -> None:
    bob = '{"userid": "bob@pve"}'
    rooms = await rooms_with(tmp_path, **{key: "{torn", "user/bob@pve": bob})
    authority = await rooms.access.authority()
    assert "bob@pve" in authority.users
    assert "ada@pve" not in authority.users


def test_every_family_of_keys_has_its_reader() -> None:
    """A family that the store's docstring names and no reader tries, or the other way round, fails here."""
    text = store_module.__doc__ or ""
    named = {f"{name}/" for name in re.findall(r"`([a-z-]+(?:/guest)?)/(?=<)", text)}
    assert named == set(READERS)


def test_every_key_that_is_written_is_of_a_named_family() -> None:
    """By the constants that modules keep the beginnings of their keys in."""
    found = set()
    for file in Path(bastide.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                if set(names) & {"_PREFIX", "_KEY", "_VERIFIED", "_TESTED"}:
                    found.add(node.value.value)
    keys = {text for text in found if re.fullmatch(r"[a-z-]+/([a-z-]+/?)*", text)}
    assert len(keys) > 15
    assert not {key for key in keys if not any(key.startswith(family) for family in READERS)}
