"""Storages and what is on them: configuration, uploads, notes, removal."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest

from bastide.model.guest import Guest
from framework.api import Api, call
from framework.evil_images import qcow2

pytestmark = pytest.mark.anyio

LOCAL = "/nodes/pve/storage/local"
ISO = b"\0" * 32769 + b"CD001" + b"\0" * 4096  # ECMA-119: the volume descriptor's mark, past the system area


async def upload(api: Api, name: str = "x.iso", data: bytes = ISO, **fields: str) -> httpx.Response:
    fields = {"content": "iso", **fields}
    files: Any = [*((key, (None, value)) for key, value in fields.items()), ("filename", (name, data))]
    return await api.root.post(f"{LOCAL}/upload", files=files)


async def test_an_upload_is_checked_published_annotated_and_removed(api: Api) -> None:
    digest = hashlib.sha256(ISO).hexdigest()
    answer = await upload(api, checksum=digest, **{"checksum-algorithm": "sha256"})
    assert await api.wait(answer.json()["data"]) == "OK"
    rows = await api.data("GET", f"{LOCAL}/content", content="iso")
    assert [(row["volid"], row["size"]) for row in rows] == [("local:iso/x.iso", len(ISO))]
    for volume in ("local:iso/x.iso", "iso/x.iso", "local%3Aiso%2Fx.iso"):
        assert (await api.data("GET", f"{LOCAL}/content/{volume}"))["size"] == len(ISO)
    await api.data("PUT", f"{LOCAL}/content/local:iso/x.iso", notes="a\nb", protected="1")
    assert "protected" in (await call(api.root, "DELETE", f"{LOCAL}/content/local:iso/x.iso")).json()["message"]
    await api.data("PUT", f"{LOCAL}/content/local:iso/x.iso", protected="0")
    assert await api.data("DELETE", f"{LOCAL}/content/local:iso/x.iso", delay="5") is None
    assert await api.data("GET", f"{LOCAL}/content", content="iso") == []


async def test_a_wrong_checksum_leaves_nothing(api: Api) -> None:
    answer = await upload(api, checksum="0" * 64, **{"checksum-algorithm": "sha256"})
    assert "checksum mismatch" in await api.wait(answer.json()["data"])
    folder = api.services.rooms.layout.local_storage
    assert [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size == len(ISO)] == []


@pytest.mark.parametrize("name", ["../x.iso", "/etc/x.iso", ".iso", "x.exe", "a\nb.iso", "a/b.iso"])
async def test_bad_names_are_refused_before_the_file_is_taken(api: Api, name: str) -> None:
    answer = await upload(api, name)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["filename"])


async def test_broken_uploads_leave_nothing(api: Api) -> None:
    head = (
        b'--x\r\nContent-Disposition: form-data; name="content"\r\n\r\niso\r\n'
        b'--x\r\nContent-Disposition: form-data; name="filename"; filename="y.iso"\r\n\r\n'
    )
    kind = {"content-type": "multipart/form-data; boundary=x"}
    for body in (head + b"\0" * 3_000_000, head + b"data\r\n--x", b"", b"--x--\r\n", head[:40]):
        answer = await api.root.post(f"{LOCAL}/upload", content=body, headers=kind)
        assert answer.status_code == 400, body[-20:]
    known = {"debian-12-test_1_amd64.tar.gz"}
    files = {path.name for path in api.services.rooms.layout.local_storage.rglob("*") if path.is_file()}
    assert files == known


async def test_storages_are_added_changed_and_forgotten(api: Api, tmp_path: Path) -> None:
    path = str(tmp_path / "more")
    await api.data("POST", "/storage", storage="more", type="dir", path=path, content="iso vztmpl")
    shown = await api.data("GET", "/storage/more")
    assert (shown["content"], shown["path"]) == ("iso,vztmpl", path)
    await api.data("PUT", "/storage/more", disable="1", digest=shown["digest"])
    stale = await call(api.root, "PUT", "/storage/more", disable="0", digest=shown["digest"])
    assert "modified configuration" in stale.json()["message"]
    assert (await api.data("GET", "/nodes/pve/storage/more/status"))["enabled"] == 0
    await api.data("DELETE", "/storage/more")
    assert (await call(api.root, "GET", "/storage/more")).json()["message"] == "storage 'more' does not exist\n"


async def test_a_storage_that_a_guest_uses_stays(api: Api) -> None:
    template = "local:vztmpl/debian-12-test_1_amd64.tar.gz"
    await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=100, ostemplate=template))
    answer = await call(api.root, "DELETE", "/storage/local")
    assert "used by CT 100" in answer.json()["message"]


async def test_a_volume_of_another_storage_is_not_reached_by_this_ones_path(api: Api) -> None:
    answer = await api.root.get(f"{LOCAL}/content/other:iso/x.iso")
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["volume"])


async def test_a_disk_image_is_taken_when_it_stands_alone(api: Api) -> None:
    answer = await upload(api, "a.qcow2", qcow2(), content="import")
    assert await api.wait(answer.json()["data"]) == "OK"
    answer = await upload(api, "b.qcow2", qcow2(backing=b"/etc/shadow"), content="import")
    assert "backing file" in await api.wait(answer.json()["data"])
    answer = await upload(api, "c.ova", b"x", content="import")
    assert (answer.status_code, "OVA" in answer.json()["message"]) == (501, True)
    rows = await api.data("GET", f"{LOCAL}/content", content="import")
    assert [(row["volid"], row["format"]) for row in rows] == [("local:import/a.qcow2", "qcow2")]


async def test_a_download_is_unpacked_only_as_an_image(api: Api) -> None:
    values = {"url": "http://x.test/a", "content": "vztmpl", "filename": "a.tar.gz", "compression": "gz"}
    answer = await call(api.root, "POST", f"{LOCAL}/download-url", **values)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["compression"])
    answer = await call(api.root, "POST", f"{LOCAL}/download-url", **{**values, "compression": "rar"})
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["compression"])


async def test_the_formats_of_disks_are_told(api: Api, tmp_path: Path) -> None:
    await api.data("POST", "/storage", storage="isos", type="dir", path=str(tmp_path / "isos"), content="iso")
    await api.data("POST", "/storage", storage="vms", type="dir", path=str(tmp_path / "vms"), content="images",
                   format="qcow2")  # fmt: skip
    rows = await api.data("GET", "/nodes/pve/storage", format="1")
    told = {row["storage"]: (row["formats"]["default"], row["formats"]["supported"]) for row in rows}
    assert told["vms"] == ("qcow2", ["qcow2", "raw", "vmdk"])
    known = (await api.services.rooms.storages.get("local")).capabilities
    assert told["local"] == (known.default_disk_format, ["qcow2", "raw", "subvol", "vmdk"])
    assert told["isos"][1] == []


@pytest.mark.system
async def test_an_empty_disk_is_made(api: Api) -> None:
    values = {"vmid": "100", "filename": "vm-100-disk-0.qcow2", "size": "8G", "format": "qcow2"}
    assert await api.data("POST", f"{LOCAL}/content", **values) == "local:100/vm-100-disk-0.qcow2"
    (row,) = await api.data("GET", f"{LOCAL}/content", content="images")
    assert (row["vmid"], row["format"], row["size"]) == (100, "qcow2", 8 << 30)
    shown = await api.data("GET", f"{LOCAL}/content/local:100/vm-100-disk-0.qcow2")
    assert (shown["format"], shown["size"]) == ("qcow2", 8 << 30)
    assert await api.data("DELETE", f"{LOCAL}/content/local:100/vm-100-disk-0.qcow2", delay="5") is None


async def test_what_a_storage_can_do_for_guests_is_told_to_those_who_may_see_it(api: Api) -> None:
    (row,) = await api.data("GET", "/bastide/storage")
    assert (row["storage"], row["type"]) == ("local", "dir")
    storage = await api.services.rooms.storages.get("local")
    assert row.get("copy-on-write") == storage.capabilities.copy_on_write


async def test_what_a_storage_lacks_is_told(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = await api.services.rooms.storages.get("local")
    monkeypatch.setattr(type(storage), "programs", ("true", "mount.nowhere"))
    (row,) = await api.data("GET", "/bastide/storage")
    assert row["lacks"] == "mount.nowhere"


async def test_volumes_that_nobody_names_are_found(api: Api) -> None:
    values = {"vmid": "100", "filename": "vm-100-disk-5.qcow2", "size": "1M", "format": "qcow2"}
    volume = await api.data("POST", f"{LOCAL}/content", **values)
    await api.services.rooms.guests.create(Guest(100, "qemu", "pve", {}))
    row = {"what": "unused", "vmid": 100, "key": "unused0", "volume": volume}
    assert await api.data("POST", "/bastide/rescan", **{"dry-run": "1"}) == [row]
    assert dict((await api.services.rooms.guests.get(100)).config) == {}
    assert await api.data("POST", "/bastide/rescan", vmid="100") == [row]
    assert dict((await api.services.rooms.guests.get(100)).config) == {"unused0": volume}
