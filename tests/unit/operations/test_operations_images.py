"""Templates: names, what an image server offers, pulling, listing; the build itself is a system test."""

import asyncio
import hashlib
import ipaddress
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import BastideError, HostFailure, InvalidParameter, NotFound, NotSupported
from bastide.host import apt, mmdebstrap
from bastide.host.download import Guard
from bastide.model.access import ROOT
from bastide.operations import image_pull, image_servers, images, simplestreams
from bastide.operations.catalog import find_buildable
from bastide.operations.rooms import Rooms
from framework.rooms import TEMPLATE, fake_rooms
from framework.streams import root_tar, serve, write_streams

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)
SOURCE = apt.AptSource(("http://mirror.test/debian",), ("bookworm",), ("main",))


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


@pytest.mark.parametrize(
    ("name", "codename"),
    [
        ("debian-12", "bookworm"),
        ("debian/12", "bookworm"),
        ("Debian/Bookworm", "bookworm"),
        ("bookworm", "bookworm"),
        ("debian-12-standard", "bookworm"),
        ("debian-13-standard_13_amd64.tar.zst", "trixie"),
        ("ubuntu-24.04", "noble"),
        ("ubuntu/noble", "noble"),
        ("debian", None),
        ("debian-12-evil", None),
        ("debian-noble", None),
        ("images:debian/12", None),
        ("fedora-40", None),
        ("", None),
    ],
)
def test_names_of_what_can_be_built(name: str, codename: str | None) -> None:
    found = find_buildable(name)
    assert (found.codename if found else None) == codename


@pytest.mark.anyio
async def test_an_image_is_pulled_by_its_alias(rooms: Rooms, tmp_path: Path) -> None:
    write_streams(tmp_path / "server")
    guard = Guard(networks=LOOPBACK)
    with serve(tmp_path / "server") as url:
        await image_servers.set_image_server(rooms, "images", url)
        assert await images.image_volid(rooms, "images:alpine/3.20") is None
        upid = await image_pull.pull_image(rooms, ROOT, "images:alpine/3.20", allowed_networks=LOOPBACK)
        status, log = await ended(rooms, upid)
        assert status == "OK", log
        volid = await images.image_volid(rooms, "images:alpine/3.20")
        assert volid == "local:vztmpl/alpine-3.20-default_20240901-13-00_amd64.tar.xz", "the newest version"
        for name in ("alpine/3.20", "alpine-3.20", "alpine/3.20/default", volid, volid.partition("/")[2]):
            assert await images.image_volid(rooms, name) == volid
        manifest = await images.image_manifest(rooms, volid)
        assert manifest["distribution"] == "alpine"
        storage, name = await rooms.storages.resolve(volid)
        data = storage.path(name).read_bytes()  # type: ignore[attr-defined]
        assert manifest["sha256"] == hashlib.sha256(data).hexdigest()
        again = await image_pull.pull_image(rooms, ROOT, "alpine/3.20/amd64", allowed_networks=LOOPBACK)
        assert "is there already" in (await ended(rooms, again))[1][0]
        offered = await images.available(rooms, guard=guard)
        alpine = [entry for entry in offered if entry["source"] == "images"]
        assert [entry["template"] for entry in alpine] == ["alpine-3.20-default_20240901-13-00_amd64.tar.xz"]
        fetched = await images.fetch_template(rooms, ROOT, "local", str(alpine[0]["template"]), guard=guard)
        assert (await ended(rooms, fetched))[0] == "OK"
        with pytest.raises(NotFound, match="no such image"):
            await image_pull.pull_image(rooms, ROOT, "images:debian/12", allowed_networks=LOOPBACK)
        with pytest.raises(NotFound, match="no such image server"):
            await image_pull.pull_image(rooms, ROOT, "elsewhere:alpine/3.20", allowed_networks=LOOPBACK)


@pytest.mark.anyio
async def test_an_altered_image_is_refused(rooms: Rooms, tmp_path: Path) -> None:
    write_streams(tmp_path / "server")
    for path in (tmp_path / "server").rglob("root.tar.xz"):
        path.write_bytes(root_tar({"etc/evil": b"x"}))
    with serve(tmp_path / "server") as url:
        await image_servers.set_image_server(rooms, "images", url)
        upid = await image_pull.pull_image(rooms, ROOT, "alpine/3.20", allowed_networks=LOOPBACK)
        status, _ = await ended(rooms, upid)
    assert status is not None
    assert "checksum mismatch" in status
    assert await images.image_volid(rooms, "alpine/3.20") is None
    assert list((rooms.layout.local_storage / ".incoming").iterdir()) == []


@pytest.mark.anyio
async def test_a_server_on_this_host_is_not_asked_without_leave(rooms: Rooms, tmp_path: Path) -> None:
    write_streams(tmp_path / "server")
    with serve(tmp_path / "server") as url:
        await image_servers.set_image_server(rooms, "images", url)
        with pytest.raises(BastideError, match="does not connect to"):
            await image_pull.pull_image(rooms, ROOT, "alpine/3.20")
        assert [entry for entry in await images.available(rooms) if entry["source"] == "images"] == []
    with pytest.raises(InvalidParameter):
        await image_servers.set_image_server(rooms, "images", "file:///etc")
    with pytest.raises(InvalidParameter):
        await image_servers.set_image_server(rooms, "../x", url)


@pytest.mark.anyio
async def test_a_build_is_published_with_its_manifest_and_then_cached(
    rooms: Rooms, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[str] = []

    async def build(recipe: mmdebstrap.Recipe, target: Path, log: Any) -> dict[str, str]:
        built.append(recipe.codename)
        log(" 50% extracting archives")
        target.write_bytes(root_tar({"etc/os-release": b"ID=debian"}))
        return {"systemd": "252"}

    monkeypatch.setattr(mmdebstrap, "build", build)
    monkeypatch.setattr(apt, "usable", lambda _distribution, _version: [SOURCE])
    other, given_name = await rooms.storages.resolve(TEMPLATE)
    await other.delete(given_name)
    upid = await images.build_image(rooms, ROOT, "debian/bookworm")
    status, log = await ended(rooms, upid)
    assert status == "OK", log
    volid = await images.image_volid(rooms, "debian-12")
    day = time.strftime("%Y%m%d", time.gmtime())
    assert volid == f"local:vztmpl/debian-12-standard_{day}_amd64.tar.zst"
    manifest = await images.image_manifest(rooms, volid)
    assert manifest["packages"] == {"systemd": "252"}
    assert (manifest["distribution"], manifest["release"], manifest["codename"]) == ("debian", "12", "bookworm")
    listed = next(entry for entry in await images.list_images(rooms) if entry["volid"] == volid)
    assert (listed["packages"], listed["sha256"]) == (1, manifest["sha256"])
    await ended(rooms, await images.build_image(rooms, ROOT, "debian-12"))
    assert len(built) == 1
    both = await asyncio.gather(*(images.build_image(rooms, ROOT, "debian-12", force=True) for _ in range(2)))
    assert [(await ended(rooms, upid))[0] for upid in both] == ["OK", "OK"]
    assert len(built) == 3
    storage, name = await rooms.storages.resolve(volid)
    path = storage.path(name)  # type: ignore[attr-defined]
    os.utime(path, (time.time() - 30 * 24 * 3600,) * 2)
    assert await images.image_volid(rooms, "debian-12") != volid, "the newest counts"
    await storage.delete(name)
    assert not list(path.parent.glob(f"{path.name}*")), "the manifest goes with the template"


@pytest.mark.anyio
async def test_a_failed_build_leaves_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def build(_recipe: Any, target: Path, _log: Any) -> dict[str, str]:
        target.write_bytes(b"half")
        raise HostFailure("mmdebstrap failed")

    monkeypatch.setattr(mmdebstrap, "build", build)
    monkeypatch.setattr(apt, "usable", lambda _distribution, _version: [SOURCE])
    before = await images.list_images(rooms)
    status, _ = await ended(rooms, await images.build_image(rooms, ROOT, "debian-12"))
    assert status == "mmdebstrap failed"
    assert await images.list_images(rooms) == before
    assert list((rooms.layout.local_storage / ".incoming").iterdir()) == []


@pytest.mark.anyio
async def test_what_cannot_be_built_is_said_before_a_task_begins(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidParameter, match="debian-12"):
        await images.build_image(rooms, ROOT, "plan9; rm -rf /")
    monkeypatch.setattr(apt, "host_sources", lambda: [SOURCE])
    with pytest.raises(NotSupported, match=r"ubuntu 24\.04"):
        await images.build_image(rooms, ROOT, "ubuntu-24.04")
    with pytest.raises(NotFound):
        await images.build_image(rooms, ROOT, "debian-12", "nowhere")


def test_a_hostile_index_leads_nowhere() -> None:
    bad = ["/etc/passwd", "../x", "a/../../x", "http://evil.test/x", "//evil.test/x", "a b", "a?b", "", 5, None]
    index = {"index": {str(n): {"datatype": "image-downloads", "path": path} for n, path in enumerate(bad)}}
    assert simplestreams.product_paths(json.dumps(index)) == []
    for path in bad:
        item = {"ftype": "root.tar.xz", "path": path, "size": 1, "sha256": "0" * 64}
        product = {"os": "a", "release": "1", "arch": "amd64", "versions": {"1": {"items": {"root.tar.xz": item}}}}
        assert simplestreams.images(json.dumps({"products": {"a": product}}), "http://x.test/") == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["products", "index", "versions", "items", "path", "a:b"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@given(_JSON)
def test_no_index_makes_the_reader_fail_in_another_way(value: Any) -> None:
    text = json.dumps(value)
    simplestreams.product_paths(text)
    simplestreams.images(text, "http://x.test/")
    with pytest.raises(HostFailure):
        simplestreams.images(text + "{", "http://x.test/")
