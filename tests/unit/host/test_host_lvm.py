"""What LVM, ZFS and Ceph report is read, and nothing else comes out of it than records or HostFailure."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import (
    AlreadyExists,
    DeadlineExceeded,
    HostFailure,
    InvalidParameter,
    NoSpace,
    NotFound,
    RunError,
    WrongState,
)
from bastide.host import lvm, rbd, zfs
from bastide.host.block_ext4 import BlockExt4
from bastide.host.bounded import Bounded
from bastide.host.lvm import LogicalVolume, Lvm
from bastide.host.run import Completed, finished

LVS = """
  {
      "report": [
          {
              "lv": [
                  {"lv_name":"vm-100-disk-0", "lv_size":"16777216", "lv_attr":"Vwi-a-tz--", "origin":"",
                   "pool_lv":"data", "data_percent":"12.50", "metadata_percent":"",
                   "lv_time":"1795752011", "lv_tags":"pve-vm-100,x"},
                  {"lv_name":"root", "lv_size":"4194304", "lv_attr":"-wi-ao----", "origin":"", "pool_lv":"",
                   "data_percent":"", "metadata_percent":"", "lv_time":"1795752011", "lv_tags":""}
              ]
          }
      ]
  }
"""


class Says:
    """A runner that answers one thing, or fails with it."""

    def __init__(self, text: str, code: int = 0) -> None:
        self.text, self.code = text, code
        self.ran: list[Sequence[str]] = []

    async def __call__(self, argv: Sequence[str], *, deadline: float = 60, check: bool = True) -> Completed:
        self.ran.append(argv)
        if self.code:
            raise RunError(argv, self.code, self.text)
        return Completed(0, self.text.encode(), "")


def test_logical_volumes_are_read() -> None:
    assert lvm.parse_volumes(LVS) == [
        LogicalVolume("vm-100-disk-0", 16777216, "Vwi-a-tz--", None, "data", 12.5, None, 1795752011,
                      frozenset({"pve-vm-100", "x"})),
        LogicalVolume("root", 4194304, "-wi-ao----", created=1795752011),
    ]  # fmt: skip


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["report", "lv", "vg", "lv_name", "pools", "stats", "image", "id"]), inner)
    ),
    max_leaves=12,
)


@given(JSON.map(json.dumps) | st.text(max_size=40))
def test_no_report_brings_another_error(text: str) -> None:
    for parse in (
        lvm.parse_volumes,
        lvm.parse_groups,
        rbd.parse_snapshots,
        rbd.parse_mapped,
        zfs.parse_datasets,
        lambda text: rbd.parse_images(text, "rbd"),
        lambda text: rbd.parse_space(text, "rbd"),
    ):
        with contextlib.suppress(HostFailure, NotFound):
            parse(text)


SIZES = st.integers(0, 1 << 60)


@given(st.lists(st.tuples(st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True), SIZES, SIZES, st.booleans())))
def test_what_zfs_lists_comes_back(rows: list[tuple[str, int, int, bool]]) -> None:
    text = "".join(
        f"tank/{name}\t{'volume' if volume else 'filesystem'}\t{size if volume else '-'}\t{'-' if volume else size}\t"
        f"{used}\t{used}\t-\t1700000000\n"
        for name, size, used, volume in rows
    )
    found = zfs.parse_datasets(text)
    assert [(f"{row.name}", row.size, row.used, row.is_volume) for row in found] == [
        (f"tank/{name}", size, used, volume) for name, size, used, volume in rows
    ]


def test_what_rbd_lists_is_read() -> None:
    rows = [
        {"image": "base-100-disk-0", "id": "1", "size": 1024, "format": 2},
        {"image": "base-100-disk-0", "snapshot": "__base__", "id": "1", "size": 1024, "protected": "true"},
        {"image": "vm-101-disk-0", "size": 2048,
         "parent": {"pool": "rbd", "pool_namespace": "", "image": "base-100-disk-0", "snapshot": "__base__"}},
        {"image": "vm-102-disk-0", "size": 2048, "parent": {"pool": "other", "image": "x", "snapshot": "y"}},
    ]  # fmt: skip
    assert rbd.parse_images(json.dumps(rows), "rbd") == [
        rbd.Image("base-100-disk-0", 1024),
        rbd.Image("vm-101-disk-0", 2048, "base-100-disk-0"),
        rbd.Image("vm-102-disk-0", 2048),
    ]
    assert rbd.parse_snapshots('[{"id": 9, "name": "b"}, {"id": 4, "name": "a"}]') == ["a", "b"]
    row = {"id": "0", "pool": "rbd", "namespace": "", "name": "x", "snap": "-", "device": "/dev/rbd0"}
    for given_rows in ([row], {"0": row}):
        assert rbd.parse_mapped(json.dumps(given_rows)) == [("rbd", "", "x", "-", "/dev/rbd0")]
    space = {"pools": [{"name": "rbd", "stats": {"stored": 5, "max_avail": 7}}]}
    assert rbd.parse_space(json.dumps(space), "rbd") == (5, 7)
    with pytest.raises(NotFound):
        rbd.parse_space(json.dumps(space), "other")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("stderr", "error"),
    [
        ('  Volume group "vg" has insufficient free space (41 extents): 4000 required.\n', NoSpace),
        ("  Cannot create new thin volume, free space in thin pool vg/pool reached threshold.\n", NoSpace),
        ("  Remaining free space in metadata of thin pool vg/pool is too low (98.00% >= 96.30%).\n", NoSpace),
        ('  Logical Volume "x" already exists in volume group "vg"\n', AlreadyExists),
        ('  Failed to find logical volume "vg/x"\n', NotFound),
        ("  Logical volume vg/x in use.\n", WrongState),
        ("  Logical volume vg/x contains a filesystem in use.\n", WrongState),
        ("  Logical volume vg/x is used by another device.\n", WrongState),
        ("  Something else.\n", RunError),
    ],
)
async def test_what_lvm_complains_of_is_told_apart(stderr: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        await Lvm("vg", Says(stderr, 5)).create("x", 4096)


@pytest.mark.anyio
async def test_a_group_that_is_not_there_is_not_found() -> None:
    says = Says('  Volume group "vg" not found\n  Cannot process volume group vg\n', 5)
    for call in (Lvm("vg", says).volumes(), Lvm("vg", says).volume_group()):
        with pytest.raises(NotFound, match="does not exist"):
            await call


@pytest.mark.anyio
async def test_every_call_leaves_guests_devices_alone() -> None:
    says = Says(LVS)
    host = Lvm("vg", says, Path("/nonexistent"))
    await host.volumes()
    await host.create("a", 1)
    await host.snapshot("a", "b", ["t"])
    for call in (host.remove(["a"]), host.rename("a", "b"), host.grow("a", 1), host.shrink("a", 1), host.seal("a")):
        await call
    await host.deactivate("a")
    with pytest.raises(HostFailure):
        await host.activate("a")
    for argv in says.ran:
        config = argv[argv.index("--config") + 1]
        assert "scan_lvs=0" in config
        assert all(f'"r|^/dev/{kind}|"' in config for kind in ("zd", "rbd", "nbd"))


@pytest.mark.parametrize("name", ["vm-100-state-a_tdata", "x_rimage_0", "a" * 121])
def test_names_that_lvm_keeps_are_refused(name: str) -> None:
    with pytest.raises(InvalidParameter):
        lvm.check_name(name)


@pytest.mark.anyio
async def test_a_device_that_is_another_one_is_refused(tmp_path: Path) -> None:
    host = Lvm("no-such-group", Says(""))
    with pytest.raises(HostFailure):
        await host.activate("null")
    with pytest.raises(HostFailure, match="not the device"):
        Lvm("..", Says(""))._device("dev/null")


@pytest.mark.anyio
async def test_what_must_not_be_killed_ends_before_its_caller() -> None:
    steps: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0.05)
        steps.append("done")

    task = asyncio.create_task(finished(work()))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert steps == ["done"]


@pytest.mark.anyio
async def test_a_tool_that_hangs_is_left_alone() -> None:
    bounded = Bounded("storage 'x'", 0.05)
    waiting = asyncio.Event()
    with pytest.raises(DeadlineExceeded):
        await bounded.run(waiting.wait())
    ran: list[Any] = []

    async def second() -> None:
        ran.append(1)

    with pytest.raises(DeadlineExceeded, match="does not answer"):
        await bounded.run(second())
    assert ran == []
    waiting.set()
    await asyncio.sleep(0.01)
    await bounded.run(second())
    assert ran == [1]


@pytest.mark.anyio
async def test_wiping_keeps_to_its_rate() -> None:
    says = Says("")
    start = asyncio.get_running_loop().time()
    await BlockExt4(says).wipe(Path("/dev/x"), 2500, 1000, 25_000)
    assert asyncio.get_running_loop().time() - start >= 0.09
    told = [argv[argv.index("--offset") + 1 : argv.index("--offset") + 4 : 2] for argv in says.ran]
    assert told == [["0", "1000"], ["1000", "1000"], ["2000", "500"]]


@pytest.mark.anyio
async def test_a_stream_tells_which_end_failed(tmp_path: Path) -> None:
    await zfs.piped(["echo", "data"], ["dd", f"of={tmp_path / 'out'}", "status=none"])
    assert (tmp_path / "out").read_text() == "data\n"
    with pytest.raises(RunError) as error:
        await zfs.piped(["false"], ["cat"])
    assert error.value.argv == ["false"]
    with pytest.raises(RunError) as error:
        await zfs.piped(["true"], ["false"])
    assert error.value.argv == ["false"]
