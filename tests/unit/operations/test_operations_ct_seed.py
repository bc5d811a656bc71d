"""A container's texts for cloud-init are in its files before it starts, or the start says why not."""

import stat
from pathlib import Path

import pytest
import yaml

from bastide.base.errors import BastideError, WrongState
from bastide.guest.fake import FakeEngine
from bastide.guest.lxc.distro.seed import write_seed
from bastide.host.rootdir import RootDir
from bastide.model.access import ROOT
from bastide.model.container import ContainerOptions
from bastide.operations.ct import power
from bastide.operations.ct.create import create_container
from bastide.operations.destroy import destroy_guest
from bastide.operations.rooms import Rooms
from bastide.operations.vm.cloudinit import CloudInit, get_data, set_data
from framework.rooms import TEMPLATE, fake_rooms

pytestmark = pytest.mark.anyio


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    rooms = await fake_rooms(tmp_path)
    options = ContainerOptions.parse({"hostname": "web.example", "rootfs": "local:0"})
    made = await create_container(rooms, ROOT, 100, TEMPLATE, options)
    assert (await rooms.tasks.wait(made)).exitstatus == "OK"
    return rooms


def engine(rooms: Rooms) -> FakeEngine:
    assert isinstance(rooms.containers, FakeEngine)
    return rooms.containers


async def started(rooms: Rooms) -> str:
    return str((await rooms.tasks.wait(await power.start(rooms, ROOT, 100))).exitstatus)


async def test_the_texts_are_left_before_the_start(rooms: Rooms) -> None:
    await set_data(rooms, 100, CloudInit(user="#cloud-config\nfinal_message: x\n", vendor="#v\n"))
    assert await started(rooms) == "OK"
    texts = engine(rooms).seeds[100]
    assert (texts["user-data"], texts["vendor-data"]) == ("#cloud-config\nfinal_message: x\n", "#v\n")
    assert yaml.safe_load(texts["network-config"]) == {"config": "disabled"}
    meta = yaml.safe_load(texts["meta-data"])
    assert meta["local-hostname"] == "web"
    assert meta["instance-id"]


async def test_other_texts_are_another_instance(rooms: Rooms) -> None:
    seen = set()
    for text in ("#cloud-config\n", "#cloud-config\na: b\n", "#cloud-config\n"):
        await set_data(rooms, 100, CloudInit(user=text))
        assert await started(rooms) == "OK"
        seen.add(yaml.safe_load(engine(rooms).seeds[100]["meta-data"])["instance-id"])
        await rooms.tasks.wait(await power.stop(rooms, ROOT, 100))
    assert len(seen) == 2


async def test_without_texts_nothing_is_touched(rooms: Rooms) -> None:
    assert await started(rooms) == "OK"
    assert engine(rooms).seeds == {}


async def test_without_cloud_init_the_start_says_what_to_do(rooms: Rooms) -> None:
    await set_data(rooms, 100, CloudInit(user="#cloud-config\n"))
    engine(rooms).fail_next["seed"] = WrongState("there is no cloud-init in the container to read its user data")
    assert "debian-12-cloud" in await started(rooms)
    assert engine(rooms).running() == frozenset()


async def test_they_go_with_the_guest(rooms: Rooms) -> None:
    await set_data(rooms, 100, CloudInit(user="#cloud-config\n"))
    await rooms.tasks.wait(await destroy_guest(rooms, ROOT, 100))
    assert await get_data(rooms, 100) == CloudInit()


def test_files_are_for_root_alone(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/cloud-init").touch()
    with RootDir(tmp_path) as root:
        write_seed(root, {"user-data": "secret", "meta-data": ""})
    folder = tmp_path / "var/lib/cloud/seed/nocloud"
    assert (folder / "user-data").read_text() == "secret"
    assert stat.S_IMODE((folder / "user-data").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("link", ["var", "var/lib/cloud", "var/lib/cloud/seed/nocloud", "usr/bin/cloud-init"])
def test_a_link_leads_nowhere_outside(tmp_path: Path, link: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "root"
    (outside / "bin").mkdir(parents=True)
    (outside / "cloud-init").touch()
    (inside / "usr/bin").mkdir(parents=True)
    if link != "usr/bin/cloud-init":
        (inside / "usr/bin/cloud-init").touch()
    (inside / link).parent.mkdir(parents=True, exist_ok=True)
    (inside / link).symlink_to(outside / "cloud-init" if link.endswith("init") else outside)
    with RootDir(inside) as root, pytest.raises(BastideError):
        write_seed(root, {"user-data": "x"})
    assert sorted(path.name for path in outside.iterdir()) == ["bin", "cloud-init"]
