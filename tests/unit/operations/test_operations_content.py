"""Files on storages: uploads and downloads are checked before they appear, what is in use stays."""

import gzip
import hashlib
import ipaddress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, NotSupported, WrongState
from bastide.model.access import ROOT
from bastide.model.guest import Guest
from bastide.operations import content
from bastide.operations.rooms import Rooms
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
        assert "may not come from" in refused
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
