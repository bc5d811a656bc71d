"""zfs(8) from memory: a volume is a sparse file, a file system a folder that is mounted by a bind mount."""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bastide.host.filesystems import mounts
from framework.fake_tools import FakeTools, ToolFailed, options

_VALUED = {"-o", "-d", "-t", "-b", "-V", "-s"}
_POOL = "tank/data"


class FakeZfs(FakeTools):
    """The pool `tank/data`."""

    def __init__(self, folder: Path, total: int = 1 << 40, *, dry: bool = False) -> None:
        super().__init__(folder, dry=dry)
        self.total = total
        self.sets: dict[str, dict[str, Any]] = {}
        self._clock = 1_700_000_000
        self._kept = folder / "zfs"
        self.tools |= {"zfs": self._zfs, "mount": self._mount}

    async def stream(self, source: Sequence[str], target: Sequence[str]) -> None:
        """What `host.zfs.piped` is."""
        self.record.append(f"{self.spell(source)}  |  {self.spell(target)}")
        given = options(target[2:], _VALUED)
        name = given[""][0]
        self._copy(source[-1], name)
        self.sets[name]["refquota"] = _settings(given).get("refquota", "0")
        self.sets[name]["snapshots"] = [source[-1].partition("@")[2]]

    def _file(self, name: str, snapshot: str | None = None) -> Path:
        row = self.sets.get(name, {})
        if row.get("type") == "volume":
            return self.file("zvol", f"{name}@{snapshot}" if snapshot else name)
        return self._kept / (f"{name}@{snapshot}" if snapshot else name)

    def _known(self, place: str) -> str:
        name, _, snapshot = place.partition("@")
        if name not in self.sets or (snapshot and snapshot not in self.sets[name]["snapshots"]):
            raise ToolFailed(f"cannot open '{place}': dataset does not exist", 1)
        return name

    def _zfs(self, argv: list[str]) -> str:
        verb, *rest = argv
        return str(getattr(self, f"_{verb}")(rest) or "")

    def _list(self, argv: list[str]) -> str:
        given = options(argv, _VALUED - {"-s"} if "snapshot" not in argv else _VALUED)
        name = given[""][-1]
        if given["-o"] == ["used,available"]:
            used = sum(self._size(row) for row in self.sets.values())
            return f"{used}\t{self.total - used}\n"
        if given["-t"] == ["snapshot"]:
            return "".join(f"{name}@{snapshot}\n" for snapshot in self.sets[self._known(name)]["snapshots"])
        rows = [f"{_POOL}\tfilesystem\t-\t0\t1000\t24576\t-\t1700000000"]
        for key, row in self.sets.items():
            volume = row["type"] == "volume"
            held = 4096 if volume or self.dry else sum(f.stat().st_size for f in self._file(key).rglob("*"))
            sizes = f"{row['volsize']}\t-" if volume else f"-\t{row['refquota']}"
            base = row["origin"] != "-" and not self.dry and not volume
            shared = sum(f.stat().st_size for f in self._file(*row["origin"].split("@")).rglob("*")) if base else 0
            rows.append(
                f"{key}\t{row['type']}\t{sizes}\t{max(0, held - shared)}\t{held}\t{row['origin']}\t{row['created']}"
            )
        return "\n".join(rows) + "\n"

    def _size(self, row: dict[str, Any]) -> int:
        return int(row["volsize"]) if row["type"] == "volume" and row["reserved"] else 4096

    def _add(self, name: str, kind: str, **more: Any) -> None:
        if name in self.sets:
            raise ToolFailed(f"cannot create '{name}': dataset already exists", 1)
        self._clock += 1
        row = {"type": kind, "volsize": 0, "refquota": 0, "origin": "-", "created": self._clock, "snapshots": []}
        self.sets[name] = {**row, "reserved": False, **more}

    def _create(self, argv: list[str]) -> None:
        given = options(argv, _VALUED - {"-s"})
        name = given[""][0]
        if "-V" in given:
            size = int(given["-V"][0])
            if "-s" not in given and size > self.total:
                raise ToolFailed(f"cannot create '{name}': out of space", 1)
            self._add(name, "volume", volsize=size, reserved="-s" not in given)
            self.make(self._file(name), size)
        else:
            self._add(name, "filesystem", refquota=_settings(given)["refquota"].replace("none", "0"))
            self._file(name).mkdir(parents=True)

    def _copy(self, source: str, name: str, origin: str = "-") -> None:
        old, _, snapshot = source.partition("@")
        row = self.sets[self._known(source)]
        self._add(name, row["type"], volsize=row["volsize"], origin=origin)
        self._place(self._file(old, snapshot), self._file(name))

    def _place(self, source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            self.copy(source, target)

    def _clone(self, argv: list[str]) -> None:
        given = options(argv, _VALUED)
        source, name = given[""]
        self._copy(source, name, source)
        self.sets[name]["refquota"] = _settings(given).get("refquota", "0")

    def _set(self, argv: list[str]) -> None:
        (setting, name) = argv
        key, _, value = setting.partition("=")
        row = self.sets[self._known(name)]
        if key == "volsize":
            self.make(self._file(name), int(value))
        if key == "snapdev":
            return
        row[key] = value

    def _rename(self, argv: list[str]) -> None:
        old, new = argv
        self._known(old)
        if new in self.sets:
            raise ToolFailed(f"cannot rename '{old}': dataset already exists", 1)
        row = self.sets[old]
        moves = [(self._file(old), new)] + [(self._file(old, snapshot), f"{new}@{snapshot}") for snapshot in
                                           row["snapshots"]]  # fmt: skip
        self.sets[new] = self.sets.pop(old)
        for path, name in moves:
            path.rename(path.with_name(name.rpartition("/")[2]))
        for other in self.sets.values():
            place, at, snapshot = other["origin"].partition("@")
            other["origin"] = f"{new}@{snapshot}" if at and place == old else other["origin"]

    def _destroy(self, argv: list[str]) -> None:
        place = options(argv, set())[""][0]
        name, _, snapshot = place.partition("@")
        self._known(place)
        if any(row["origin"].startswith(f"{place}@") or row["origin"] == place for row in self.sets.values()):
            raise ToolFailed(f"cannot destroy '{place}': has dependent clones", 1)
        path = self._file(name)
        # A bind mount shows the folder's own path as its root; nothing else tells whose it is.
        if not snapshot and not self.dry and any(e.target.name == name.rpartition("/")[2] for e in mounts()
                                                 if e.target.is_relative_to(self.devices.parent)):  # fmt: skip
            raise ToolFailed(f"cannot destroy '{place}': dataset is busy", 1)
        for kept in [snapshot] if snapshot else self.sets[name]["snapshots"]:
            _remove(self._file(name, kept))
        if snapshot:
            self.sets[name]["snapshots"].remove(snapshot)
        else:
            _remove(path)
            del self.sets[name]

    def _snapshot(self, argv: list[str]) -> None:
        name, _, snapshot = argv[0].partition("@")
        if snapshot in self.sets[self._known(name)]["snapshots"]:
            raise ToolFailed(f"cannot create snapshot '{argv[0]}': dataset already exists", 1)
        self._place(self._file(name), self._file(name, snapshot))
        self.sets[name]["snapshots"].append(snapshot)

    def _rollback(self, argv: list[str]) -> None:
        name, _, snapshot = argv[0].partition("@")
        if self.sets[self._known(argv[0])]["snapshots"][-1] != snapshot:
            raise ToolFailed(f"cannot rollback to '{argv[0]}': more recent snapshots or bookmarks exist", 1)
        _remove(self._file(name))
        self._place(self._file(name, snapshot), self._file(name))

    def _mount(self, argv: list[str]) -> str:
        *_, name, target = argv
        if not self.dry:
            file = self._file(self._known(name), name.partition("@")[2] or None)
            subprocess.run(["mount", "--bind", str(file), target], check=True)
        return ""


def _settings(given: dict[str, list[str]]) -> dict[str, str]:
    return dict(setting.split("=") for setting in given.get("-o", []))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
