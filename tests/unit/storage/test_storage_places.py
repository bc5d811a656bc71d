"""Which folders of the host a storage may be made of."""

from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.storage.places import check_folder

pytestmark = pytest.mark.anyio

SYSTEM = ["/", "//", "/etc", "/etc/", "/etc/ssh", "/proc/1/root", "/sys/fs", "/dev/shm", "/run/lock", "/usr/local",
          "/boot/efi", "/bin", "/lib/modules"]  # fmt: skip


@pytest.mark.parametrize("path", SYSTEM)
async def test_the_systems_own_are_none_however_they_are_named(path: str, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    for name in (path, str(link), *([f"{link}/below"] if path.strip("/") else [])):
        with pytest.raises(InvalidParameter, match="can't be a storage"):
            await check_folder(name, Layout(tmp_path / "b"))


@pytest.mark.parametrize("layout", [Layout(), Layout(Path("/srv/b"))], ids=["the machine's", "a root of its own"])
async def test_our_own_are_none(layout: Layout) -> None:
    state = layout.state
    for path in (state, state / "secrets/storage", state / "storage2", state.parent, layout.runtime, layout.logs / "x"):
        with pytest.raises(InvalidParameter, match="can't be a storage"):
            await check_folder(str(path), layout)
    for path in (layout.local_storage, layout.local_storage / "more", state / "mnt/nas", Path("/srv/data")):
        await check_folder(str(path), layout)


async def test_a_link_to_a_folder_for_data_is_as_good_as_that(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "data")
    await check_folder(str(tmp_path / "link"), Layout(tmp_path / "b"))
