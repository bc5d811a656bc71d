"""Storage tools that answer from memory, so that plugins over block devices run where the kernel has none of it.

A volume's device is a sparse file: mkfs.ext4, e2fsck, resize2fs and mount(8), which puts a loop device over it, are the
real ones. `record` keeps what was run, for golden files.
"""

import json
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bastide.base.errors import DeadlineExceeded, RunError
from bastide.host import qemu_img
from bastide.host.filesystems import loop_devices, mounts
from bastide.host.run import Completed, run


class ToolFailed(Exception):
    """What a tool would say on standard error, and its exit code."""

    def __init__(self, text: str, code: int = 5) -> None:
        super().__init__(text)
        self.code = code


class FakeTools:
    """A runner. Subclasses give `tools`: what answers to a program's name, with its arguments and printed text.

    With `dry` no other tool is run either. `hang` lets every tool run into its deadline.
    """

    def __init__(self, folder: Path, *, dry: bool = False) -> None:
        self.devices = folder / "dev"
        self.devices.mkdir(parents=True, exist_ok=True)
        self.record: list[str] = []
        self.faults: dict[str, str] = {}
        self.tools: dict[str, Callable[[list[str]], str]] = {"blkdiscard": self._blkdiscard}
        self.dry = dry
        self.hang = False

    async def run(self, argv: Sequence[str], *, deadline: float = 60, check: bool = True) -> Completed:
        """What `host.run.run` is."""
        self.record.append(self.spell(argv))
        if self.hang:
            raise DeadlineExceeded(f"{argv[0]} did not end within {deadline:g} seconds")
        answer = self.tools.get(argv[0])
        try:
            if (fault := self.faults.pop(argv[0], None)) is not None:
                raise ToolFailed(fault)
            if answer is not None:
                return Completed(0, answer(list(argv[1:])).encode(), "")
        except ToolFailed as error:
            if check:
                raise RunError(argv, error.code, f"  {error}\n") from None
            return Completed(error.code, b"", f"  {error}\n")
        if self.dry:
            return Completed(0, b"Estimated minimum size of the filesystem: 100\n", "")
        return await run(argv, deadline=deadline, check=check)

    async def fill(
        self,
        source: Path | int,
        source_format: str,
        device: Path,
        *,
        zeroed: bool = False,
        progress: Any = None,
        rate: int = 0,
    ) -> None:
        """What `qemu_img.convert_onto` is."""
        said = source if isinstance(source, Path) else "IMAGE"
        limit = [f"rate={rate}"] if rate else []
        self.record.append(self.spell(["FILL", str(said), source_format, str(device), f"zeroed={zeroed}", *limit]))
        if not self.dry:
            await qemu_img.convert_onto(source, source_format, device, zeroed=zeroed, progress=progress, rate=rate)

    async def stream(self, source: Sequence[str], target: Sequence[str]) -> None:
        """What `host.zfs.piped` is."""
        raise NotImplementedError

    def spell(self, argv: Sequence[str]) -> str:
        """A command line without what is another one every time."""
        return "  ".join(argv).replace(str(self.devices), "/dev")

    def file(self, *parts: str) -> Path:
        """The device of a volume."""
        return self.devices.joinpath(*parts)

    def in_use(self, path: Path) -> bool:
        """Whether something is mounted over a device."""
        # The kernel lets go of a loop device some time after it was unmounted.
        deadline = time.monotonic() + 0.5
        while not self.dry and loop_devices(path):
            if time.monotonic() > deadline:
                return True
            time.sleep(0.01)
        return False

    def make(self, path: Path, size: int) -> None:
        """Make or resize a device; the loop devices over it follow."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.truncate(size)
        for device in [] if self.dry else loop_devices(path):
            subprocess.run(["losetup", "--set-capacity", device], check=True)

    def copy(self, source: Path, target: Path) -> None:
        """Copy a device, with all that was written to it."""
        target.parent.mkdir(parents=True, exist_ok=True)
        over = set() if self.dry else set(loop_devices(source))
        for entry in mounts() if over else ():
            if entry.source in over:
                subprocess.run(["sync", "-f", str(entry.target)], check=True)
        if self.dry:
            self.make(target, source.stat().st_size)
        else:
            subprocess.run(["cp", "--sparse=always", str(source), str(target)], check=True)

    def _blkdiscard(self, argv: list[str]) -> str:
        given = options(argv, {"--step", "--offset", "--length"})
        path, start, length = Path(given[""][-1]), int(given.get("--offset", ["0"])[0]), int(given["--length"][0])
        if not self.dry:
            with path.open("r+b") as file:
                file.seek(start)
                file.write(bytes(length))
        return ""


def options(argv: Sequence[str], valued: set[str]) -> dict[str, list[str]]:
    """{option: its values}; what is no option is under the empty name."""
    found: dict[str, list[str]] = {"": []}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word in valued:
            found.setdefault(word, []).append(rest.pop(0))
        elif word.startswith("-") and word != "--":
            found.setdefault(word, [])
        elif word != "--":
            found[""].append(word)
    return found


_LVM_VALUED = {
    *("--config", "--reportformat", "--units", "--options", "--size", "--wipesignatures", "--type", "--thinpool"),
    *(
        "--virtualsize",
        "--setautoactivation",
        "--setactivationskip",
        "--addtag",
        "--name",
        "--permission",
        "--activate",
    ),
}
_EXTENT = 4 * 1024 * 1024


class FakeLvm(FakeTools):
    """A volume group `vg` of `total` bytes with a thin pool `pool` that takes half of it."""

    def __init__(self, folder: Path, total: int = 1 << 40, *, dry: bool = False) -> None:
        super().__init__(folder, dry=dry)
        self.total = total
        self.volumes: dict[str, dict[str, Any]] = {}
        self._clock = 1_700_000_000
        self._add("pool", total // 2, attributes="twi-aotz--", data_percent="10.00", metadata_percent="5.00")
        for name in ("lvs", "vgs", "lvcreate", "lvremove", "lvrename", "lvextend", "lvreduce", "lvchange"):
            self.tools[name] = getattr(self, f"_{name}")

    def _add(self, name: str, size: int, attributes: str = "-wi-a-----", **more: Any) -> None:
        if name in self.volumes:
            raise ToolFailed(f'Logical Volume "{name}" already exists in volume group "vg"')
        self._clock += 1
        self.volumes[name] = {
            "lv_name": name,
            "lv_size": -(-size // _EXTENT) * _EXTENT,
            "lv_attr": attributes,
            "lv_time": self._clock,
            **dict.fromkeys(("origin", "pool_lv", "data_percent", "metadata_percent", "lv_tags"), ""),
            **more,
        }

    def _path(self, name: str) -> Path:
        return self.file("vg", name)

    def _known(self, place: str) -> str:
        name = place.removeprefix("vg/")
        if name not in self.volumes:
            raise ToolFailed(f'Failed to find logical volume "{place}"')
        return name

    def _lvs(self, argv: list[str]) -> str:
        if (group := options(argv, _LVM_VALUED)[""][-1]) != "vg":
            raise ToolFailed(f'Volume group "{group}" not found\n  Cannot process volume group {group}')
        rows = [{key: str(value) for key, value in row.items()} for row in self.volumes.values()]
        return json.dumps({"report": [{"lv": rows}]})

    def _vgs(self, argv: list[str]) -> str:
        self._lvs(argv)
        row = {"vg_size": str(self.total), "vg_free": str(self._free()), "vg_extent_size": str(_EXTENT)}
        return json.dumps({"report": [{"vg": [row]}]})

    def _free(self) -> int:
        return int(self.total - sum(row["lv_size"] for row in self.volumes.values() if not row["pool_lv"]))

    def _lvcreate(self, argv: list[str]) -> str:
        given = options(argv, _LVM_VALUED)
        name, tags = given["--name"][0], ",".join(given.get("--addtag", []))
        if "--snapshot" in given:
            if "--setautoactivation" in given:
                raise ToolFailed("Option --setautoactivation is unsupported with snapshots.")
            origin = self._known(given[""][0])
            row = self.volumes[origin]
            more = {"origin": origin, "pool_lv": row["pool_lv"], "lv_tags": tags, "data_percent": "50.00"}
            self._add(name, row["lv_size"], f"V{given['--permission'][0][0]}i---tz-k", **more)
            self.copy(self._path(origin), self._path(name))
            return ""
        thin = given.get("--thinpool", [""])[0]
        if thin and "--setautoactivation" in given:
            raise ToolFailed("Option --setautoactivation is unsupported with thins.", 3)
        size = int(given["--virtualsize" if thin else "--size"][0].removesuffix("b"))
        if size % 512:
            raise ToolFailed(f"Size is not a multiple of 512. Try using {size // 512 * 512}.", 3)
        if not thin and size > self._free():
            raise ToolFailed(f'Volume group "vg" has insufficient free space (1 extents): {size // _EXTENT} required.')
        attributes = {"attributes": "Vwi---tz-k", "data_percent": "50.00"} if thin else {}
        self._add(name, size, pool_lv=thin, lv_tags=tags, **attributes)
        self.make(self._path(name), self.volumes[name]["lv_size"])
        return ""

    def _lvremove(self, argv: list[str]) -> str:
        for place in options(argv, _LVM_VALUED)[""]:
            name = self._known(place)
            if self.in_use(self._path(name)):
                raise ToolFailed(f"Logical volume vg/{name} contains a filesystem in use.")
            del self.volumes[name]
            self._path(name).unlink()
        return ""

    def _lvrename(self, argv: list[str]) -> str:
        _, old, new = options(argv, _LVM_VALUED)[""]
        if new in self.volumes:
            raise ToolFailed(f'Logical volume "{new}" already exists in volume group "vg"')
        row = self.volumes.pop(self._known(old))
        self.volumes[new] = {**row, "lv_name": new}
        self._path(old).rename(self._path(new))
        return ""

    def _lvextend(self, argv: list[str], *, smaller: bool = False) -> str:
        given = options(argv, _LVM_VALUED)
        row = self.volumes[self._known(given[""][0])]
        size = -(-int(given["--size"][0].removesuffix("b")) // _EXTENT) * _EXTENT
        if size == row["lv_size"] or (size < row["lv_size"]) != smaller:
            raise ToolFailed("New size given not larger than existing size")
        if not row["pool_lv"] and size - row["lv_size"] > self._free():
            raise ToolFailed("Insufficient free space: 100 extents needed, but only 1 available")
        row["lv_size"] = size
        self.make(self._path(row["lv_name"]), size)
        return ""

    def _lvreduce(self, argv: list[str]) -> str:
        return self._lvextend(argv, smaller=True)

    def _lvchange(self, argv: list[str]) -> str:
        given = options(argv, _LVM_VALUED)
        name = self._known(given[""][0])
        row = self.volumes[name]
        if given.get("--activate") == ["n"] and self.in_use(self._path(name)):
            raise ToolFailed(f"Logical volume vg/{name} contains a filesystem in use.")
        if "--permission" in given:
            if row["lv_attr"][1] == "r":
                raise ToolFailed(f'Logical volume "vg/{name}" is already read only.')
            row["lv_attr"] = f"{row['lv_attr'][0]}r{row['lv_attr'][2:]}"
        return ""
