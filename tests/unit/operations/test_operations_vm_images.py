"""VMs' disk images: built, pulled in any form, from image servers, found among templates."""

import gzip
import hashlib
import ipaddress
import json
import lzma
import os
import re
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import AlreadyExists, InvalidParameter, NotFound, NotSupported
from bastide.host import apt, mmdebstrap, vm_image
from bastide.model.access import ROOT
from bastide.model.guest import Kind
from bastide.operations import image_pull, image_servers, images, simplestreams
from bastide.operations.catalog import buildables, find_buildable
from bastide.operations.rooms import Rooms
from framework.evil_images import qcow2, qemu_img
from framework.rooms import TEMPLATE, fake_rooms
from framework.streams import serve, write_streams

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SOURCE = apt.AptSource(("http://mirror.test/debian",), ("bookworm",), ("main",))
RAW = bytes(510) + b"\x55\xaa" + bytes(1 << 20)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="the sandbox is made by root")


@pytest.fixture
async def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rooms:
    async def amd64() -> str:
        return "amd64"

    monkeypatch.setattr(apt, "architecture", amd64)
    return await fake_rooms(tmp_path / "root")


async def ended(rooms: Rooms, upid: Any) -> tuple[str | None, list[str]]:
    record = await rooms.tasks.wait(upid)
    lines, _ = await rooms.tasks.log(upid, 0, 500)
    return record.exitstatus, [line.t for line in lines]


async def pull(rooms: Rooms, url: str, **options: Any) -> tuple[str | None, list[str]]:
    upid = await image_pull.pull_image(rooms, ROOT, url, kind="qemu", allowed_networks=LOOPBACK, **options)
    return await ended(rooms, upid)


def stored(rooms: Rooms) -> list[str]:
    """The files that are on the storage or on their way to it."""
    folders = (rooms.layout.local_storage / "import", rooms.layout.local_storage / ".incoming")
    return [path.name for folder in folders if folder.exists() for path in folder.iterdir()]


@pytest.mark.parametrize(
    ("name", "kind", "alias"),
    [
        ("debian-12", "qemu", "debian-12"),
        ("debian-12-cloud", "qemu", "debian-12"),
        ("debian-12-cloud_20260101_amd64.qcow2", "qemu", "debian-12"),
        ("noble", "qemu", "ubuntu-24.04"),
        ("debian-12", "lxc", "debian-12"),
        ("debian-12-cloud", "lxc", "debian-12-cloud"),
        ("debian/bookworm-cloud", "lxc", "debian-12-cloud"),
    ],
)
def test_names_mean_one_kind(name: str, kind: Kind, alias: str) -> None:
    found = find_buildable(name, kind)
    assert found is not None
    assert (found.alias, found.kind) == (alias, kind)
    assert find_buildable(found.alias, kind) == found
    assert find_buildable(found.filename("20260101", "amd64"), kind) == found


@pytest.mark.parametrize("one", [*buildables("lxc"), *buildables("qemu")], ids=lambda one: f"{one.kind}-{one.package}")
def test_recipes_hold_what_a_guest_needs(one: Any) -> None:
    recipe = one.recipe([SOURCE], "amd64")
    assert ("cloud-init" in recipe.packages) == (one.variant == "cloud")
    assert ("qemu-guest-agent" in recipe.packages) == (one.kind == "qemu")
    assert "openssh-server" in recipe.packages
    assert len(set(recipe.packages)) == len(recipe.packages)
    text = "\n".join([*recipe.early_hooks, *recipe.hooks])
    assert ("console=ttyS0" in text) == (one.kind == "qemu")
    assert ("config: disabled" in text) == (one.kind == "lxc" and one.variant == "cloud")
    assert ("BOOTX64.EFI" in text) == (one.kind == "qemu")
    assert re.search(r"rm -f [^\n]*ssh_host_\*_key", text)


def test_a_vm_image_is_for_amd64() -> None:
    found = find_buildable("debian-12", "qemu")
    assert found is not None
    with pytest.raises(NotSupported, match="arm64"):
        found.recipe([SOURCE], "arm64")


@pytest.mark.anyio
async def test_both_kinds_of_a_release_live_side_by_side(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(recipe: mmdebstrap.Recipe, target: Path, _log: Any, **_more: Any) -> dict[str, str]:
        target.write_bytes(b"x")
        return dict.fromkeys(recipe.packages, "1")

    monkeypatch.setattr(mmdebstrap, "build", build)
    monkeypatch.setattr(vm_image, "build", build)
    monkeypatch.setattr(apt, "usable", lambda _distribution, _version: [SOURCE])
    storage, given = await rooms.storages.resolve(TEMPLATE)
    await storage.delete(given)
    for name, kind in (("debian-12", "lxc"), ("debian-12-cloud", "lxc"), ("debian-12", "qemu")):
        status, log = await ended(rooms, await images.build_image(rooms, ROOT, name, kind=kind))  # type: ignore[arg-type]
        assert status == "OK", log
    plain = await images.image_volid(rooms, "debian-12")
    cloud = await images.image_volid(rooms, "debian-12-cloud")
    disk = await images.image_volid(rooms, "debian-12", "qemu")
    assert plain is not None
    assert cloud is not None
    assert disk is not None
    assert re.fullmatch(r"local:vztmpl/debian-12-standard_\d{8}_amd64\.tar\.zst", plain)
    assert re.fullmatch(r"local:vztmpl/debian-12-cloud_\d{8}_amd64\.tar\.zst", cloud)
    assert re.fullmatch(r"local:import/debian-12-cloud_\d{8}_amd64\.qcow2", disk)
    assert await images.image_volid(rooms, disk, "qemu") == disk
    assert await images.image_volid(rooms, disk, "lxc") is None
    assert [await images.has_cloud_init(rooms, one) for one in (plain, cloud, disk)] == [False, True, True]
    rows = {row["volid"]: row for row in await images.list_images(rooms)}
    assert [rows[one]["type"] for one in (plain, cloud, disk)] == ["lxc", "lxc", "qemu"]
    assert [rows[one]["cloudinit"] for one in (plain, cloud, disk)] == [0, 1, 1]
    assert [row["volid"] for row in await images.list_images(rooms, "qemu")] == [disk]
    _, log = await ended(rooms, await images.build_image(rooms, ROOT, "bookworm", kind="qemu"))
    assert "was built within" in log[0]


@as_root
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("file", "pack"),
    [
        ("disk.raw", bytes),
        ("disk.img", bytes),
        ("disk.img.gz", gzip.compress),
        ("disk.raw.xz", lzma.compress),
        ("disk", lzma.compress),
    ],
)
async def test_an_image_is_kept_as_qcow2_whatever_it_came_as(
    rooms: Rooms, tmp_path: Path, file: str, pack: Any
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    data = pack(RAW)
    (folder / file).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    with serve(folder) as url:
        status, log = await pull(rooms, f"{url}/{file}?token=geheim", checksum=digest, checksum_algorithm="sha256")
        assert status == "OK", log
        with pytest.raises(AlreadyExists):
            await pull(rooms, f"{url}/{file}")
    assert sorted(stored(rooms)) == ["disk.qcow2", "disk.qcow2.manifest.json"]
    path = rooms.layout.local_storage / "import/disk.qcow2"
    assert path.read_bytes()[:4] == b"QFI\xfb"
    qemu_img(tmp_path, "convert", "-f", "qcow2", "-O", "raw", str(path), "back")
    assert (tmp_path / "back").read_bytes().rstrip(b"\0") == RAW.rstrip(b"\0")
    manifest = await images.image_manifest(rooms, "local:import/disk.qcow2")
    assert manifest["format"] == "raw"
    assert manifest["source"] == f"{url}/{file}"
    assert await images.image_volid(rooms, "disk", "qemu") == "local:import/disk.qcow2"


@as_root
@pytest.mark.anyio
@pytest.mark.parametrize("form", ["qcow2", "vmdk", "vdi", "vhdx"])
async def test_other_formats_are_taken(rooms: Rooms, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    qemu_img(folder, "create", "-f", form, f"disk.{form}", "8M")
    with serve(folder) as url:
        status, log = await pull(rooms, f"{url}/disk.{form}")
    assert status == "OK", log
    assert (rooms.layout.local_storage / "import/disk.qcow2").read_bytes()[:4] == b"QFI\xfb"


@as_root
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"<html>not found</html>" * 50, "no disk image"),
        (qcow2(backing=b"/etc/passwd"), "backing file"),
        (gzip.compress(qcow2(backing=b"/etc/passwd")), "backing file"),
        (qcow2(incompatible=1 << 2), "data file"),
        (gzip.compress(RAW)[:200], "unpacked"),
        (b"", "no disk image|empty|truncated"),
    ],
)
async def test_what_is_no_image_of_its_own_is_refused(rooms: Rooms, tmp_path: Path, data: bytes, why: str) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "disk.img").write_bytes(data)
    with serve(folder) as url:
        status, _ = await pull(rooms, f"{url}/disk.img")
    assert status is not None
    assert re.search(why, status)
    assert stored(rooms) == []


@pytest.mark.anyio
async def test_a_wrong_checksum_leaves_nothing(rooms: Rooms, tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "server/disk.qcow2").write_bytes(qcow2())
    with serve(tmp_path / "server") as url:
        status, _ = await pull(rooms, f"{url}/disk.qcow2", checksum="0" * 64, checksum_algorithm="sha256")
        with pytest.raises(InvalidParameter):
            await pull(rooms, f"{url}/..")
    assert status is not None
    assert "checksum mismatch" in status
    assert stored(rooms) == []


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("https://x.test/debian-12-genericcloud-amd64.qcow2", "qemu"),
        ("https://x.test/a.img?x=1", "qemu"),
        ("https://x.test/a.raw.xz#y", "qemu"),
        ("https://x.test/a.VMDK", "qemu"),
        ("https://x.test/a.tar.xz", "lxc"),
        ("https://x.test/a.xz?file=disk.img", "lxc"),
        ("images:debian/12", "lxc"),
    ],
)
def test_the_name_in_a_url_tells_its_kind(source: str, kind: Kind) -> None:
    assert image_pull.kind_of(source) == kind


@pytest.mark.anyio
async def test_an_image_server_has_disks_for_vms(rooms: Rooms, tmp_path: Path) -> None:
    server = tmp_path / "server"
    write_streams(server)
    document = json.loads((server / "streams/v1/images.json").read_text())
    for variant in ("default", "cloud"):
        data = qcow2(size=1 << (20 + len(variant)))
        (server / f"{variant}.qcow2").write_bytes(data)
        digest = hashlib.sha256(data).hexdigest()
        item = {"ftype": "disk-kvm.img", "path": f"{variant}.qcow2", "size": len(data), "sha256": digest}
        document["products"][f"alpine:3.20:amd64:{variant}"] = {
            "os": "Alpine",
            "release": "3.20",
            "arch": "amd64",
            "variant": variant,
            "aliases": "alpine/3.20/cloud" if variant == "cloud" else "alpine/3.20,alpine/3.20/default",
            "versions": {"20240901_13:00": {"items": {"disk.qcow2": item}}},
        }
    (server / "streams/v1/images.json").write_text(json.dumps(document))
    text = json.dumps(document)
    assert {image.variant for image in simplestreams.images(text, "http://x.test", "qemu")} == {"default", "cloud"}
    assert simplestreams.images(text, "http://x.test", "lxc") == []
    with serve(server) as url:
        await image_servers.set_image_server(rooms, "images", url)
        for alias, variant in (("images:alpine/3.20", "cloud"), ("alpine/3.20/default", "default")):
            status, log = await pull(rooms, alias)
            assert status == "OK", log
            volid = f"local:import/alpine-3.20-{variant}_20240901-13-00_amd64.qcow2"
            assert await images.image_volid(rooms, f"alpine/3.20/{variant}", "qemu") == volid
            assert (await images.has_cloud_init(rooms, volid)) is (True if variant == "cloud" else None)
        with pytest.raises(NotFound):
            await pull(rooms, "images:debian/12")
