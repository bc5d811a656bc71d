"""File systems in files, mounted through loop devices that free themselves."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bastide.base.errors import NoSpace
from bastide.host import loop, syscalls
from bastide.host.filesystems import loop_devices, mount_at, sync_tree
from framework.disposable import mounted

pytestmark = pytest.mark.system


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "an image.raw"
    path.write_bytes(b"")
    os.truncate(path, 16 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
    return path


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "target"
    folder.mkdir()
    yield folder
    while mount_at(folder) is not None:
        syscalls.unmount(folder)


def test_what_is_written_is_there_again_and_the_device_is_free(image: Path, target: Path) -> None:
    loop.mount(image, target, "ext4", syscalls.MS_NODEV, "noinit_itable")
    entry = mount_at(target)
    assert entry is not None
    assert entry.fstype == "ext4"
    assert "nodev" in entry.options
    assert loop_devices(image) == [entry.source]
    (target / "file").write_text("written")
    syscalls.unmount(target, 0)
    _until_free(image)
    loop.mount(image, target, "ext4", syscalls.MS_RDONLY)
    assert (target / "file").read_text() == "written"
    with pytest.raises(OSError, match="Read-only"):
        (target / "other").write_text("x")


def _until_free(image: Path) -> None:
    """Whoever lists disks at this moment, as tests beside this one do, holds a device until it has looked."""
    deadline = time.monotonic() + 10
    while loop_devices(image):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_file_without_a_file_system_leaves_no_device(tmp_path: Path, target: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    with pytest.raises(OSError, match="Invalid argument"):
        loop.mount(empty, target, "ext4")
    assert loop_devices(empty) == []


def test_a_link_is_not_followed(image: Path, target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(image)
    with pytest.raises(OSError, match="symbolic links"):
        loop.mount(link, target, "ext4")


def test_many_at_once_get_a_device_each(tmp_path: Path) -> None:
    places, failures = [], []
    for number in range(8):
        place = tmp_path / str(number)
        place.mkdir()
        path = tmp_path / f"{number}.raw"
        path.write_bytes(b"")
        os.truncate(path, 8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(path)], check=True)
        places.append((path, place))

    def mount(path: Path, place: Path) -> None:
        try:
            loop.mount(path, place, "ext4")
        except OSError as error:
            failures.append(error)

    threads = [threading.Thread(target=mount, args=pair) for pair in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mounted = [entry for _, place in places if (entry := mount_at(place)) is not None]
    for entry in mounted:
        syscalls.unmount(entry.target, 0)
    assert failures == []
    assert len({entry.source for entry in mounted}) == 8


def test_an_image_that_its_disk_has_no_room_for(tmp_path: Path, target: Path) -> None:
    with mounted("ext4", tmp_path, 32 << 20) as disk:
        image = disk / "image.raw"
        image.write_bytes(b"")
        os.truncate(image, 64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
        loop.mount(image, target, "ext4")
        assert loop.image_below(target.stat().st_dev) == image
        assert loop.image_below(tmp_path.stat().st_dev) is None
        (target / "file").write_bytes(os.urandom(48 << 20))
        with pytest.raises(NoSpace, match="no space left for the image"):
            sync_tree(target)
        syscalls.unmount(target)
