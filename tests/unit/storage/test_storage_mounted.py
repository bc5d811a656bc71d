"""A share that is mounted when it is needed; a tmpfs stands for the server, whose kernel client is not everywhere."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bastide.base.errors import BastideError, HostFailure, NotSupported, WrongState
from bastide.base.units import MIB
from bastide.host import filesystems, network_mounts
from bastide.host.run import run
from framework.tmpfs_share import TmpfsShare

pytestmark = [pytest.mark.anyio, pytest.mark.system]


@pytest.fixture
async def share(tmp_path: Path) -> AsyncIterator[TmpfsShare]:
    yield TmpfsShare.below(tmp_path)
    while filesystems.mounts_within(tmp_path):
        await run(["umount", "--lazy", str(filesystems.mounts_within(tmp_path)[-1])])


async def test_it_is_mounted_on_demand_and_let_go(share: TmpfsShare, tmp_path: Path) -> None:
    place = tmp_path / "state/mnt/nas"
    share.reachable = False
    with pytest.raises(BastideError):
        await share.prepare()
    assert not (await share.usage()).active
    assert os.listdir(place) == [], "nothing is written where the share should be"
    share.reachable = True
    usage = await share.usage()
    assert (usage.active, usage.total) == (True, 64 * MIB)
    assert (place / "template/iso").is_dir(), "what its failed start could not make"
    flags = os.statvfs(place).f_flag
    assert flags & os.ST_NOSUID
    assert flags & os.ST_NODEV
    await share.usage()
    assert len(filesystems.mounts_within(tmp_path)) == 1
    await share.detach()
    await share.detach()
    assert filesystems.mounts_within(tmp_path) == []


async def test_without_the_mount_no_name_leads_to_the_hosts_own_folder(share: TmpfsShare, tmp_path: Path) -> None:
    await share.prepare()
    await share.write_file("100/vm-100-cloudinit.raw", b"x")
    await share.detach()
    share.reachable = False
    for call in (
        share.disk_path("100/vm-100-cloudinit.raw"),
        share.allocate_disk("100/vm-100-disk-0.raw", MIB),
        share.write_file("100/vm-100-cloudinit.raw", b"y"),
        share.info("100/vm-100-cloudinit.raw"),
    ):
        with pytest.raises(HostFailure, match="not online"):
            await call
    assert os.listdir(tmp_path / "state/mnt/nas") == []


async def test_what_is_in_use_stays_mounted(share: TmpfsShare, tmp_path: Path) -> None:
    await share.prepare()
    with (tmp_path / "state/mnt/nas/held").open("w"), pytest.raises(WrongState, match="in use"):
        await share.detach()
    await share.detach()


async def test_another_mount_in_its_place_is_refused(share: TmpfsShare, tmp_path: Path) -> None:
    await share.prepare()
    share.filesystems = frozenset({"nfs"})
    assert not (await share.usage()).active
    with pytest.raises(HostFailure, match="is mounted there"):
        await share.prepare()
    assert len(filesystems.mounts_within(tmp_path)) == 1


async def test_a_server_that_says_nothing_holds_up_nobody_twice(share: TmpfsShare) -> None:
    share.slow = True
    share._mounting._deadline = 0.3
    assert not (await share.usage()).active
    await asyncio.sleep(0.1)
    started = time.monotonic()
    assert not (await share.usage()).active
    assert time.monotonic() - started < 0.2
    for task in [task for task in share._mounting._running if isinstance(task, asyncio.Task)]:
        task.cancel()


async def test_a_container_on_a_share_is_an_image(share: TmpfsShare) -> None:
    assert share.capabilities.container_format == "raw"
    assert share.capabilities.shared
    assert share.volume_name(100, 0, MIB) == "100/vm-100-disk-0.raw"
    with pytest.raises(NotSupported, match="size"):
        share.volume_name(100, 0, 0)


async def test_mounts_of_storages_that_were_never_added_go(share: TmpfsShare, tmp_path: Path) -> None:
    await share.prepare()
    await network_mounts.tidy(tmp_path / "state/mnt", frozenset({"nas"}))
    assert len(filesystems.mounts_within(tmp_path)) == 1
    await network_mounts.tidy(tmp_path / "state/mnt", frozenset())
    assert filesystems.mounts_within(tmp_path) == []
