"""kill -9 of a real daemon at points spread over the length of an operation, and looks at what each kill leaves.

    sweep = Sweep(host, check=lambda: None)
    sweep.over(Act("snapshot", begin=take, done=is_there, undo=remove), points=8)
    sweep.report()

After each kill a new daemon must answer with no task running and no guest locked; every volume has a name in a
configuration, and nothing of the storages is half made. What is not done is done by a second try, and once `undo` has
taken it back, the host holds what it held before, in the file systems and in the kernel.
"""

import contextlib
import os
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bastide.base.layout import Layout
from bastide.network.ports import host_interface
from framework.groups import groups_of
from framework.host import ApiFailure, Host
from framework.nursery import nursery
from framework.patience import PATIENCE

_VOLUME = re.compile(r"(?:^|[,=])([A-Za-z][A-Za-z0-9._-]*:[^,:]*(?:vm|base|subvol)-\d+-[^,]+)")
_NUMBERED = re.compile(r"(vm-\d+-disk-|vzdump-[a-z]+-\d+-)(\d{4}_[\d_]+-[\d_]+|\d+)", re.ASCII)
_SIDECARS = (".notes", ".protected", ".size", ".base")
_WORKERS = re.compile(r"(tar|zstd|gzip|rsync|cp|borg|qemu-|python)", re.ASCII)
_AIMED = 6
"""Kills at most that are added where an operation is over so soon that all others missed its middle."""

_AT_WORK = " with files of the host's open"
_SETTLED = 30.0
"""Seconds within which locks end and volumes that were let go are gone."""


def _nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Act:
    """An operation that can be repeated.

    `begin` asks for it and returns the UPID; `done` says whether its effect is there, and fails on a half of it;
    `undo` takes the effect back and makes all ready for the next time. `prepare` is done before each `begin`.
    """

    name: str
    begin: Callable[[], str]
    done: Callable[[], bool]
    undo: Callable[[], None] = _nothing
    prepare: Callable[[], None] = _nothing


@dataclass
class Sweep:
    """Sweeps over the operations of one host; `check` looks at what must go on through every kill, and fails if not.

    `settle` waits for what the next daemon does by itself, before anything is looked at.
    """

    host: Host
    check: Callable[[], None] = _nothing
    settle: Callable[[], None] = _nothing
    outcomes: dict[str, Counter[str]] = field(default_factory=dict)

    def over(self, act: Act, points: int) -> None:
        """Kill the daemon at that many points of an operation, from its request to a little after its end.

        When none of the kills hit the middle, some more are aimed at it. Fails when these miss it, too.
        """
        length = self._length(act)
        before = settled(self.host)
        told = self.outcomes.setdefault(act.name, Counter())
        early, late = 0.0, length
        for point in range(points + _AIMED):
            if point >= points and told["interrupted"]:
                break
            delay = length * 1.05 * point / points if point < points else (early + late) / 2
            try:
                outcome = self._kill_once(act, delay)
                self._compare(before)
            except (AssertionError, ApiFailure, RuntimeError) as error:
                error.add_note(f"{act.name}: killed {delay:.3f} s after the request, of {length:.3f} s")
                raise
            told[outcome] += 1
            if outcome == "unanswered":
                early = max(early, delay)
            elif outcome == "ended":
                # The first time takes longer than those that follow, and so does a busy machine.
                length = late = min(late, delay)
        print(f"{act.name}: kills over {length:.2f} s, {told['interrupted']} in the middle: {dict(told)}")
        assert told["interrupted"], f"no kill hit the middle of {act.name}: {told}"

    def report(self) -> int:
        """Print how many kills hit the middle of what they were aimed at; how many there were in all."""
        total = sum((counter for counter in self.outcomes.values()), Counter[str]())
        print(f"{total.total()} kills in all: {dict(total)}")
        return total.total()

    def _length(self, act: Act) -> float:
        act.prepare()
        began = time.monotonic()
        self.host.wait(act.begin())
        length = time.monotonic() - began
        assert act.done(), f"{act.name}: done, and yet it is not"
        act.undo()
        return length

    def _kill_once(self, act: Act, delay: float) -> str:
        act.prepare()
        ended = killed_after(self.host, delay, act.begin)
        self.settle()
        look_whole(self.host)
        self.check()
        done = act.done()
        if not done:
            assert ended != "OK", f"{act.name}: the task ended well and nothing is done"
            self.host.wait(act.begin())
            assert act.done(), f"{act.name}: the second try ended well and nothing is done"
            self.check()
        act.undo()
        if ended is None:
            return "unanswered"
        return "ended" if ended == "OK" else "interrupted"

    def _compare(self, before: frozenset[str]) -> None:
        after = settled(self.host, before)
        # Who was at work at first, as on a busy machine, need not be any more.
        lost = [trace for trace in before - after if not trace.endswith(_AT_WORK)]
        left = after - before
        assert not left | set(lost), f"left: {sorted(left)}, lost: {sorted(lost)}"


def killed_after(host: Host, delay: float, begin: Callable[[], str]) -> str | None:
    """Ask for an operation, kill the daemon so many seconds after the request, and start the next one.

    Returns how the task ended, None when the daemon died before it answered.
    """
    process, upid = host.process, None
    assert process is not None
    timer = threading.Timer(delay, process.kill)
    timer.start()
    with contextlib.suppress(httpx.TransportError):
        upid = begin()
    timer.join()
    process.wait()
    host.start(nursery())
    if upid is None:
        return None
    status = host.get(f"/nodes/{host.node}/tasks/{upid}/status")
    assert status["status"] == "stopped", status
    return str(status["exitstatus"])


def look_whole(host: Host) -> None:
    """No task runs, no guest is locked, no snapshot is half taken, each volume is named by its guest.

    No container is frozen, and the volumes of those that do not run are not mounted.
    """
    active = host.get(f"/nodes/{host.node}/tasks", source="active")
    assert not [row for row in active if "endtime" not in row], active
    named: set[str] = set()
    for vmid, path in _guests(host):
        config = host.get(f"{path}/config")
        assert "lock" not in config, (vmid, config)
        named |= _named(config)
        for row in host.get(f"{path}/snapshot"):
            assert "snapstate" not in row, row
            if row["name"] != "current":
                named |= _named(host.get(f"{path}/snapshot/{row['name']}/config"))
    there = {row["volid"] for row in _volumes(host)}
    assert there <= named, f"volumes that nothing names: {there - named}"
    assert named <= there, f"volumes that are not there: {named - there}"
    frozen = [trace for trace in _groups(host) if trace.startswith("frozen")]
    assert not frozen, frozen
    deadline = time.monotonic() + _SETTLED * PATIENCE
    while mounted := [*_mounted_in_vain(host)]:
        assert time.monotonic() < deadline, f"mounted, and nobody runs there: {mounted}"
        time.sleep(0.1)


def look_for_running(host: Host, vmids: Iterable[int]) -> None:
    """These guests run within the time in which locks end, and whoever has started them again has ended."""
    deadline = time.monotonic() + _SETTLED * PATIENCE
    wanted = set(vmids)
    while True:
        running = {row["vmid"] for row in host.get("/cluster/resources", type="vm") if row["status"] == "running"}
        busy = [row for row in host.get(f"/nodes/{host.node}/tasks", source="active") if "endtime" not in row]
        if wanted <= running and not busy:
            return
        assert time.monotonic() < deadline, f"these do not run again: {wanted - running}; tasks: {busy}"
        time.sleep(0.1)


def settled(host: Host, wanted: frozenset[str] | None = None) -> frozenset[str]:
    """Traces of the host once they are `wanted`, or have not changed for a moment, or time is over."""
    deadline = time.monotonic() + _SETTLED * PATIENCE
    last = traces(host)
    while last != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
        last, before = traces(host), last
        # Who only works on files ends by itself.
        if wanted is None and last == before and not any(trace.endswith(_AT_WORK) for trace in last):
            break
    return last


def traces(host: Host) -> frozenset[str]:
    """Files of the storages, mounts, loop devices, interfaces, control groups and processes of the host's."""
    return frozenset({*_files(host), *_mounts(host), *_loops(host), *_links(host), *_groups(host), *_processes(host)})


def _guests(host: Host) -> Iterator[tuple[int, str]]:
    for kind in ("lxc", "qemu"):
        for row in host.get(f"/nodes/{host.node}/{kind}"):
            yield row["vmid"], f"/nodes/{host.node}/{kind}/{row['vmid']}"


def _named(config: dict[str, Any]) -> set[str]:
    return {match[1] for key, value in config.items() if key != "parent" and (match := _VOLUME.search(str(value)))}


def _volumes(host: Host) -> Iterator[dict[str, Any]]:
    for storage in host.get(f"/nodes/{host.node}/storage"):
        for row in host.get(f"/nodes/{host.node}/storage/{storage['storage']}/content"):
            if row["content"] in ("images", "rootdir"):
                yield row


def _mounted_in_vain(host: Host) -> Iterator[str]:
    """Volumes that are mounted though their container does not run, and what was mounted for a moment."""
    running = {str(row["vmid"]) for row in host.get(f"/nodes/{host.node}/lxc") if row["status"] == "running"}
    place = f"{host.root}/run/mounts/"
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        target = line.split()[4]
        if target.startswith(place) and target.removeprefix(place).split("/")[1] not in running:
            yield target


def _storage_folders(host: Host) -> Iterator[Path]:
    for row in host.get("/storage"):
        if "path" in row:
            yield Path(row["path"])


def _files(host: Host) -> Iterator[str]:
    """Volumes with what lies beside them, and what is on its way in or out."""
    for folder in _storage_folders(host):
        for pattern in (
            "dump/*", "images/*", "images/*/*", "images/*/*.snapshots/*", ".incoming/*", ".trash/*", ".base/*",
            "about/*", "views/*", "repository/lock*", ".new-*",
        ):  # fmt: skip
            # A backup that failed may leave its log.
            yield from _numbered_anew(path for path in folder.glob(pattern) if path.suffix != ".log")
    for pattern in ("run/qemu/*", "run/nbd-*", "run/borg/*/*/*", "state/vzdump/*", "state/tmp*"):
        yield from map(str, host.root.glob(pattern))


def _numbered_anew(paths: Iterable[Path]) -> Iterator[str]:
    """Paths in which each guest's disks and backups have numbers from 0 on: after a second try they have other ones."""
    texts = [str(path) for path in paths]
    numbers: dict[str, set[str]] = {}
    for match in filter(None, map(_NUMBERED.search, texts)):
        numbers.setdefault(match[1], set()).add(match[2])

    def again(match: re.Match[str]) -> str:
        ordered = sorted(numbers[match[1]], key=lambda number: (len(number), number))
        return f"{match[1]}{ordered.index(match[2])}"

    yield from (_NUMBERED.sub(again, text, count=1) for text in texts)


def _mounts(host: Host) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(host.root) in line:
            yield f"mount {line.split()[4]}"


def _loops(host: Host) -> Iterator[str]:
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if str(host.root) in (text := backing.read_text().strip()):
                yield f"loop {text}"


def _links(host: Host) -> Iterator[str]:
    own = host_interface(Layout(host.root), 100, 0).partition("-")[0]
    yield from (path.name for path in Path("/sys/class/net").iterdir() if path.name.startswith(own))


def _groups(host: Host) -> Iterator[str]:
    instance = Layout(host.root).instance
    yield from (str(path) for path in groups_of(instance, "*") if path.is_dir())
    for pattern, word in (("**/freezer.state", "FROZEN"), ("**/cgroup.freeze", "1")):
        for path in groups_of(instance, pattern):
            with contextlib.suppress(OSError):
                if path.read_text().strip() == word:
                    yield f"frozen {path}"


def _processes(host: Host) -> Iterator[str]:
    """Processes that were started for the host: its own daemon apart."""
    assert host.process is not None
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if int(entry.name) in (host.process.pid, os.getpid()):
                continue
            argv = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(host.root) in argv:
                yield f"process {argv}"
            elif name := _working(entry, host):
                yield f"process {name}{_AT_WORK}"


def _working(entry: Path, host: Host) -> str | None:
    """The name of a process that copies, packs, or compresses files of the host's, which no argument may tell."""
    name = (entry / "comm").read_text().strip()
    if not _WORKERS.match(name):
        return None
    seen = "\n".join(os.readlink(path) for path in (entry / "fd").iterdir())
    if os.readlink(entry / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        seen += (entry / "mountinfo").read_text()
    return name if str(host.root) in seen else None
