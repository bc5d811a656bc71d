"""Files on storages: uploads and downloads are checked before they appear, what is in use stays."""

import bz2
import gzip
import hashlib
import ipaddress
import lzma
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import (
    AlreadyExists,
    InvalidParameter,
    MethodNotImplemented,
    NotFound,
    NotSupported,
    WrongState,
)
from bastide.base.units import GIB, MIB
from bastide.model.access import ROOT
from bastide.model.guest import Guest
from bastide.model.storage import StorageUsage
from bastide.operations import content, incoming
from bastide.operations.incoming import split_compression
from bastide.operations.rooms import Rooms
from framework.evil_images import qcow2, vmdk
from framework.rooms import TEMPLATE, fake_rooms
from framework.streams import root_tar, serve

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
NAME = "alpine_1_amd64.tar.xz"


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    return await fake_rooms(tmp_path / "root")


async def ended(rooms: Rooms, upid: Any) -> str | None:
    return (await rooms.tasks.wait(upid)).exitstatus


def leftovers(rooms: Rooms) -> list[Path]:
    return list((rooms.layout.local_storage / ".incoming").iterdir())


async def spool(rooms: Rooms, data: bytes, name: str = NAME) -> Path:
    path = await content.upload_path(rooms, "local", "vztmpl", name)
    path.write_bytes(data)
    return path


@pytest.mark.anyio
async def test_an_upload_appears_when_it_is_what_it_should_be(rooms: Rooms) -> None:
    data = root_tar({"etc/os-release": b"ID=alpine"})
    digest = hashlib.sha256(data).hexdigest().upper()
    spooled = await spool(rooms, data)
    upid = await content.upload(
        rooms, ROOT, "local", "vztmpl", NAME, spooled=spooled, checksum=digest, checksum_algorithm="sha256"
    )
    assert upid.type == "imgcopy"
    assert await ended(rooms, upid) == "OK"
    shown = [entry for entry in await content.list_content(rooms, "local", "vztmpl") if NAME in str(entry["volid"])]
    assert (shown[0]["format"], shown[0]["size"]) == ("txz", len(data))
    info = await content.volume_info(rooms, f"local:vztmpl/{NAME}")
    assert Path(str(info["path"])).read_bytes() == data
    assert leftovers(rooms) == []
    with pytest.raises(AlreadyExists):
        await content.upload_path(rooms, "local", "vztmpl", NAME)


@pytest.mark.anyio
@pytest.mark.parametrize("checksum", [None, "0" * 64])
async def test_a_bad_upload_leaves_nothing(rooms: Rooms, checksum: str | None) -> None:
    spooled = await spool(rooms, root_tar({"a": b"b"}) if checksum else gzip.compress(b"no archive"))
    upid = await content.upload(
        rooms,
        ROOT,
        "local",
        "vztmpl",
        NAME,
        spooled=spooled,
        checksum=checksum,
        checksum_algorithm="sha256" if checksum else None,
    )
    status = await ended(rooms, upid)
    assert status is not None
    assert ("checksum mismatch" if checksum else "not a readable tar") in status
    assert leftovers(rooms) == []
    with pytest.raises(NotFound):
        await content.volume_info(rooms, f"local:vztmpl/{NAME}")


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["../x.tar.gz", "a/b.tar.gz", ".tar.gz", "x.exe", "-x.tar.gz", "a\nb.tar.gz", ""])
async def test_names_are_refused_before_a_body_is_read(rooms: Rooms, name: str) -> None:
    with pytest.raises(InvalidParameter, match="filename"):
        await content.upload_path(rooms, "local", "vztmpl", name)
    with pytest.raises(InvalidParameter, match="filename"):
        await content.download_url(rooms, ROOT, "local", "vztmpl", name, url="http://x.test/a")
    assert leftovers(rooms) == []


@pytest.mark.anyio
async def test_parameters_of_a_download_are_checked_together(rooms: Rooms) -> None:
    async def attempt(**values: Any) -> None:
        await content.download_url(rooms, ROOT, "local", "vztmpl", NAME, **{"url": "http://x.test/a", **values})

    with pytest.raises(InvalidParameter, match="url"):
        await attempt(url="file:///etc/passwd")
    with pytest.raises(InvalidParameter, match="requires"):
        await attempt(checksum="0" * 64)
    with pytest.raises(InvalidParameter, match="32 hexadecimal"):
        await attempt(checksum="0" * 64, checksum_algorithm="md5")
    with pytest.raises(InvalidParameter, match="none of"):
        await attempt(checksum="0" * 64, checksum_algorithm="crc32")
    await rooms.storages.update("local", {"content": "rootdir"})
    with pytest.raises(NotSupported, match="vztmpl"):
        await attempt()


@pytest.mark.anyio
async def test_a_download_is_checked_and_published(rooms: Rooms, tmp_path: Path) -> None:
    data = root_tar({"etc/os-release": b"ID=alpine"})
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a.tar.xz").write_bytes(data)
    with serve(tmp_path / "served") as url:

        async def attempt(**values: Any) -> str | None:
            upid = await content.download_url(
                rooms, ROOT, "local", "vztmpl", NAME, url=f"{url}/a.tar.xz", **{"allowed_networks": LOOPBACK, **values}
            )
            assert upid.type == "download"
            return await ended(rooms, upid)

        refused = await attempt(allowed_networks=(), allow_private=True)
        assert refused is not None
        assert "does not connect to" in refused
        wrong = await attempt(checksum="0" * 40, checksum_algorithm="sha1")
        assert wrong is not None
        assert "checksum mismatch" in wrong
        assert [path.name for path in leftovers(rooms) if path.stat().st_size] == []
        assert await attempt(checksum=hashlib.sha1(data).hexdigest(), checksum_algorithm="sha1") == "OK"
    info = await content.volume_info(rooms, f"local:vztmpl/{NAME}")
    assert Path(str(info["path"])).read_bytes() == data


@pytest.mark.anyio
async def test_a_volume_in_use_stays(rooms: Rooms) -> None:
    volid = await content.create_volume(rooms, "local", 100, "vm-100-disk-0", size="8G")
    assert volid == "local:100/vm-100-disk-0.subvol"
    guest = await rooms.guests.create(
        Guest(vmid=100, kind="lxc", node="pve", config={"rootfs": f"{volid},size=8G"}, first_id=100000)
    )
    with pytest.raises(WrongState, match="in use by guest 100"):
        await content.delete_volume(rooms, ROOT, volid)
    await rooms.guests.update(replace(guest, config={"unused0": volid}))
    with pytest.raises(WrongState, match="in use by guest 100"):
        await content.delete_volume(rooms, ROOT, volid)
    await rooms.guests.delete(100)
    upid = await content.delete_volume(rooms, ROOT, volid)
    assert await ended(rooms, upid) == "OK"
    with pytest.raises(NotFound):
        await content.delete_volume(rooms, ROOT, volid)
    await content.annotate(rooms, TEMPLATE, protected=True)
    with pytest.raises(WrongState, match="protected"):
        await content.delete_volume(rooms, ROOT, TEMPLATE)
    for filename, size in (("vm-101-disk-0", "8G"), ("../vm-100-disk-0", "8G")):
        with pytest.raises(InvalidParameter, match="filename"):
            await content.create_volume(rooms, "local", 100, filename, size=size)


@pytest.mark.parametrize(
    ("kind", "filename", "asked", "expected"),
    [
        ("import", "a.qcow2", None, ("a.qcow2", None)),
        ("import", "a.qcow2", "xz", ("a.qcow2", "xz")),
        ("import", "a.raw.xz", None, ("a.raw", "xz")),
        ("import", "a.img.gz", "gz", ("a.img", "gz")),
        ("iso", "a.iso.zst", None, ("a.iso", "zst")),
        ("iso", "a.img.bz2", None, ("a.img", "bz2")),
        ("vztmpl", "a.tar.xz", None, ("a.tar.xz", None)),
    ],
)
def test_the_name_or_the_caller_says_what_is_unpacked(
    kind: Any, filename: str, asked: str | None, expected: tuple[str, str | None]
) -> None:
    assert split_compression(kind, filename, asked) == expected


@pytest.mark.parametrize(("kind", "filename", "asked"), [("vztmpl", "a.tar.xz", "xz"), ("import", "a.raw.xz", "gz")])
def test_what_cannot_be_unpacked_is_said(kind: Any, filename: str, asked: str) -> None:
    with pytest.raises(InvalidParameter, match="compression"):
        split_compression(kind, filename, asked)


@pytest.mark.anyio
async def test_an_ova_is_not_built(rooms: Rooms) -> None:
    for name in ("a.ova", "A.OVA", "a.ova.gz", "a.ovf"):
        with pytest.raises(MethodNotImplemented, match="OVA"):
            await content.upload_path(rooms, "local", "import", name)
        with pytest.raises(MethodNotImplemented, match="OVA"):
            await content.download_url(rooms, ROOT, "local", "import", name, url="http://x.test/a")


async def bring(rooms: Rooms, filename: str, data: bytes, **values: Any) -> str | None:
    """Upload an image; returns how the task ended."""
    spooled = await content.upload_path(rooms, "local", "import", filename)
    spooled.write_bytes(data)
    upid = await content.upload(rooms, ROOT, "local", "import", filename, spooled=spooled, **values)
    return await ended(rooms, upid)


@pytest.mark.system
@pytest.mark.anyio
async def test_images_are_taken_as_they_are_or_unpacked(rooms: Rooms) -> None:
    data = os.urandom(MIB)
    sha256 = {"checksum_algorithm": "sha256"}
    images = {
        "a.raw": data, "b.img": data, "c.qcow2": qcow2(), "d.vmdk": vmdk('createType="monolithicSparse"'),
        "e.raw.xz": lzma.compress(data), "f.img.gz": gzip.compress(data), "g.raw.bz2": bz2.compress(data),
        "h.qcow2.gz": gzip.compress(qcow2()),
    }  # fmt: skip
    for name, packed in images.items():
        assert await bring(rooms, name, packed, checksum=hashlib.sha256(packed).hexdigest(), **sha256) == "OK", name
    shown = {str(row["volid"]): row for row in await content.list_content(rooms, "local", "import")}
    formats = {name.partition("/")[2]: row["format"] for name, row in shown.items()}
    assert formats == {"a.raw": "raw", "b.img": "raw", "c.qcow2": "qcow2", "d.vmdk": "vmdk", "e.raw": "raw",
                       "f.img": "raw", "g.raw": "raw", "h.qcow2": "qcow2"}  # fmt: skip
    for name in ("e.raw", "f.img", "g.raw"):
        assert shown[f"local:import/{name}"]["size"] == MIB
        assert Path(str((await content.volume_info(rooms, f"local:import/{name}"))["path"])).read_bytes() == data
    # A list shows the file, a look at one image what a guest would see.
    assert shown["local:import/c.qcow2"]["size"] == len(qcow2())
    assert (await content.volume_info(rooms, "local:import/c.qcow2"))["size"] == MIB
    assert leftovers(rooms) == []


@pytest.mark.system
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("a.raw.xz", gzip.compress(bytes(512)), "compressed with gz, not with xz"),
        ("a.raw.gz", bytes(512), "not compressed"),
        ("a.raw.gz", gzip.compress(os.urandom(4096))[:1000], "cannot be unpacked"),
        ("a.raw.gz", gzip.compress(qcow2(backing=b"/etc/shadow")), "header of qcow2"),
        ("a.qcow2.gz", gzip.compress(qcow2(backing=b"/etc/shadow")), "backing file"),
        ("a.raw.gz", gzip.compress(gzip.compress(bytes(512))), "compressed with gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "data",
)
async def test_a_bad_image_leaves_nothing(rooms: Rooms, name: str, data: bytes, why: str) -> None:
    status = await bring(rooms, name, data)
    assert status is not None
    assert why in status
    assert leftovers(rooms) == []
    assert await content.list_content(rooms, "local", "import") == []


@pytest.mark.system
@pytest.mark.anyio
async def test_a_bomb_ends_at_its_bound(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    storage: Any = await rooms.storages.files("local", "import")
    room = incoming.RESERVE + 4 * MIB

    async def usage() -> StorageUsage:
        return StorageUsage(active=True, total=room, used=0, available=room)

    monkeypatch.setattr(storage, "usage", usage)
    status = await bring(rooms, "a.raw.gz", gzip.compress(bytes(64 * MIB)))
    assert status is not None
    assert "unpacks to more than" in status
    assert leftovers(rooms) == []
    assert await content.list_content(rooms, "local", "import") == []


@pytest.mark.system
@pytest.mark.anyio
async def test_a_download_is_unpacked_after_its_checksum(rooms: Rooms, tmp_path: Path) -> None:
    packed = lzma.compress(os.urandom(MIB))
    (tmp_path / "served").mkdir()
    (tmp_path / "served/a").write_bytes(packed)
    with serve(tmp_path / "served") as url:
        upid = await content.download_url(
            rooms, ROOT, "local", "import", "a.img", url=f"{url}/a", compression="xz", allowed_networks=LOOPBACK,
            checksum=hashlib.sha256(packed).hexdigest(), checksum_algorithm="sha256",
        )  # fmt: skip
        assert await ended(rooms, upid) == "OK"
    assert [row["size"] for row in await content.list_content(rooms, "local", "import")] == [MIB]
    assert [path for path in leftovers(rooms) if path.stat().st_size] == []


@pytest.mark.system
@pytest.mark.anyio
async def test_a_volume_is_a_disk_or_a_file_system_by_its_guest(rooms: Rooms) -> None:
    await rooms.guests.create(Guest(vmid=200, kind="lxc", node="pve", config={}, first_id=100000))
    await rooms.guests.create(Guest(vmid=201, kind="qemu", node="pve", config={}, first_id=200000))

    async def make(vmid: int, filename: str, form: str | None = None) -> str:
        return await content.create_volume(rooms, "local", vmid, filename, size="8G", form=form)

    assert await make(200, "vm-200-disk-0") == "local:200/vm-200-disk-0.subvol"
    # What a new disk is depends on what the file system can.
    default = (await rooms.storages.disks("local")).capabilities.default_disk_format
    assert await make(201, "vm-201-disk-0") == f"local:201/vm-201-disk-0.{default}"
    assert await make(201, "vm-201-disk-1", "qcow2") == "local:201/vm-201-disk-1.qcow2"
    assert await make(202, "vm-202-disk-0.qcow2") == "local:202/vm-202-disk-0.qcow2"
    assert await make(202, "vm-202-disk-1", "raw") == "local:202/vm-202-disk-1.raw"
    for vmid, form in ((200, "qcow2"), (201, "subvol")):
        with pytest.raises(InvalidParameter, match="format"):
            await make(vmid, f"vm-{vmid}-disk-9", form)
    with pytest.raises(InvalidParameter, match="format"):
        await make(202, "vm-202-disk-2.raw", "qcow2")
    rows = {str(row["volid"]).rpartition("/")[2]: row for row in await content.list_content(rooms, "local", "images")}
    assert sorted(rows) == [
        f"vm-201-disk-0.{default}",
        "vm-201-disk-1.qcow2",
        "vm-202-disk-0.qcow2",
        "vm-202-disk-1.raw",
    ]
    assert {(row["size"], row["content"]) for row in rows.values()} == {(8 * GIB, "images")}
    assert (rows["vm-201-disk-1.qcow2"]["format"], rows["vm-201-disk-1.qcow2"]["vmid"]) == ("qcow2", 201)
    info = await content.volume_info(rooms, "local:201/vm-201-disk-1.qcow2")
    assert (info["format"], info["size"]) == ("qcow2", 8 * GIB)
    assert 0 < int(str(info["used"])) < 8 * MIB
