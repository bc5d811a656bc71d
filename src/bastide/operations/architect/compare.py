"""The story of a comparison: the same Debian as a container and as a VM, measured on this host, and kept.

Results are kept under `comparison/<taken>` in the store. Guests are made, measured and removed one after the other, so
that none disturbs another.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from bastide.architect.benchmarks import Extent
from bastide.architect.comparison import Measured, side
from bastide.base.errors import BastideError, NotFound, NotSupported, WrongState
from bastide.base.ids import Upid
from bastide.host import abilities, facts, measure, qemu_facts, sampling
from bastide.model.access import Identity
from bastide.model.comparison import TITLES, Comparison, Side
from bastide.model.guest import Guest
from bastide.model.service import Choice
from bastide.operations.architect import compare_guests, compare_measure, compare_native, compare_tools
from bastide.operations.architect.compare_guests import Stage
from bastide.operations.architect.compare_measure import Suite
from bastide.operations.rooms import Rooms
from bastide.tasks.filters import TaskFilter
from bastide.tasks.tasks import Task

KEPT = 20
"""How many comparisons are kept."""

RUNS = 3
"""How many guests of a kind are measured, when nothing else is asked."""

_PREFIX = "comparison/"
_TASK = "compare"


@dataclass(frozen=True, slots=True)
class Asked:
    """What shall be compared. `runs` guests of each kind; None is 3, and of VMs a single one with `quick`.

    `quick` measures for a second where it is otherwise several, and on smaller files; `vm` is whether VMs are measured
    at all. `storage` holds the guests' disks.
    """

    quick: bool = False
    runs: int | None = None
    image: str = "debian-12"
    storage: str = "local"
    vm: bool = True

    def guests(self, kind: Choice) -> int:
        """How many guests of a kind are made."""
        return self.runs or (1 if self.quick and kind == "vm" else RUNS)

    def measured(self, kind: Choice) -> int:
        """In how many of them the tools run; the others are made, started and stopped alone."""
        return self.guests(kind) if self.runs or not self.quick else 1

    def suite(self) -> Suite:
        """What the tools do."""
        seconds, file, repeats = (1, 64, 2) if self.quick else (3, 256, 2)
        path = f"{compare_tools.FOLDER}.dat"
        return Suite(Extent(seconds=seconds, file=file, path=path, threads=facts.cpu_count()), repeats)

    @property
    def settling(self) -> float:
        """Seconds that a guest is left alone before its memory is looked at."""
        return 3.0 if self.quick else 15.0


@dataclass(slots=True)
class Progress:
    """Lines of the task's log with how far it is; `total` is what all steps weigh."""

    task: Task
    total: float
    done: float = 0.0
    said: str = field(default="")

    def step(self, weight: float, text: str) -> None:
        """Tell what is done now, and count its weight for what follows."""
        if text != self.said:
            self.task.log(f"{min(99, 100 * self.done / self.total):3.0f}% {text}")
        self.said = text
        self.done += weight


async def compare(rooms: Rooms, by: Identity, asked: Asked) -> Upid:
    """Measure as a task `compare`, and keep the result.

    Raises NotFound, NotSupported for a storage that cannot hold the guests, WrongState while another comparison runs.
    """
    await rooms.storages.containers(asked.storage)
    if asked.vm:
        await rooms.storages.disks(asked.storage)
    running, _ = await rooms.tasks.page(TaskFilter(typefilter=_TASK, source="active"))
    if running:
        raise WrongState(f"a comparison runs already: {running[0].upid}")

    async def work(task: Task) -> None:
        if os.getloadavg()[0] > facts.cpu_count():
            task.log(f"the host is busy, load {os.getloadavg()[0]:.1f}: figures will be worse than on a quiet one")
        await compare_guests.remove_left(rooms, by, task)
        comparison = await _compare(rooms, by, asked, task)
        await keep(rooms, comparison)
        task.log(f"100% kept as {comparison.taken}")

    return await rooms.tasks.start(_TASK, asked.image, by, work)


async def _compare(rooms: Rooms, by: Identity, asked: Asked, task: Task) -> Comparison:
    taken = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    kinds: tuple[Choice, ...] = ("ct", "vm") if asked.vm else ("ct",)
    images = {
        kind: await compare_guests.obtain(rooms, by, asked.image, kind, storage=asked.storage, task=task)
        for kind in kinds
    }
    stage = Stage(rooms, by, asked.storage, images)
    emulated = rooms.vms.accelerator[0] == "tcg"
    progress = Progress(task, 30 + sum(_weight(asked, kind, emulated=emulated) for kind in kinds))
    host = await _host(rooms, asked)
    async with compare_guests.made(stage, "ct") as (donor, _), _network(stage, asked.suite()) as suite:
        why = await _install_tools(stage, donor, progress)
        run = _Run(stage, asked, suite, donor, why, progress)
        ct = await _side(run, "ct", emulated=False)
        vm = await _side(run, "vm", emulated=emulated) if asked.vm else None
        progress.step(10, "measuring the host itself")
        native = await compare_native.measured(rooms, asked.storage, suite)
    return Comparison(
        taken=taken,
        quick=asked.quick,
        runs=asked.guests("ct"),
        image=asked.image,
        host=host,
        ct=ct,
        vm=vm,
        native=native,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """What measuring a guest takes. `why` says why there are no tools, or is empty."""

    stage: Stage
    asked: Asked
    suite: Suite
    donor: Guest
    why: str
    progress: Progress


def _weight(asked: Asked, kind: Choice, *, emulated: bool) -> float:
    """About how many seconds a kind takes."""
    slow = kind == "vm" and emulated
    return asked.guests(kind) * _lifecycle(slow=slow) + asked.measured(kind) * (
        asked.settling + 45 * (1.5 if slow else 1)
    )


def _lifecycle(*, slow: bool) -> float:
    return 120.0 if slow else 10.0


async def _install_tools(stage: Stage, donor: Guest, progress: Progress) -> str:
    """Make the tools ready; why there are none, or nothing."""
    progress.step(20, "installing fio, iperf3 and sysbench in a container of their own")
    try:
        await compare_guests.start(stage, "ct", donor)
        await compare_tools.install(stage.rooms, donor)
        await compare_guests.stop(stage, "ct", donor)
    except BastideError as error:
        why = f"the tools could not be installed: {' '.join(str(error).split())[-200:]}"
        progress.task.warn(why)
        return why
    return ""


@contextlib.asynccontextmanager
async def _network(stage: Stage, suite: Suite) -> AsyncIterator[Suite]:
    """The suite with the host's end of the network; without iperf3 on the host it says so."""
    address = stage.address
    if address is None:
        lacks = f"{stage.rooms.network.bridge} has no address of the host's"
        yield Suite(suite.extent, suite.repeats, lacks=lacks)
        return
    async with contextlib.AsyncExitStack() as stack:
        try:
            port = await stack.enter_async_context(measure.iperf_server(address))
            found = Suite(suite.extent, suite.repeats, address, port)
        except NotSupported:
            lacks = "iperf3 is not installed on the host: apt-get install iperf3"
            found = Suite(suite.extent, suite.repeats, address, lacks=lacks)
        except BastideError as error:
            found = Suite(suite.extent, suite.repeats, address, lacks=str(error))
        yield found


async def _side(run: _Run, kind: Choice, *, emulated: bool) -> Side:
    """One kind, measured; what fails is told in `missing`, and the rest goes on."""
    measured, isolation, hardware = Measured(), dict[str, str](), dict[str, str]()
    for index in range(run.asked.guests(kind)):
        try:
            whole = index < run.asked.measured(kind)
            facts_found = await _guest(run, kind, measured, title=f"{kind.upper()} {index + 1}", whole=whole)
            isolation, hardware = facts_found or (isolation, hardware)
        except BastideError as error:
            reason = " ".join(str(error).split())[:300]
            run.progress.task.warn(f"{kind.upper()} {index + 1}: {reason}")
            for name in TITLES:
                measured.lack(name, reason)
    return side(kind, measured, isolation, hardware, emulated=emulated)


async def _guest(
    run: _Run, kind: Choice, measured: Measured, *, title: str, whole: bool
) -> tuple[dict[str, str], dict[str, str]] | None:
    """The life of one guest; its facts when the `whole` of it is measured."""
    stage, progress, found = run.stage, run.progress, None
    life = _lifecycle(slow=kind == "vm" and stage.rooms.vms.accelerator[0] == "tcg")
    progress.step(life * 0.2, f"{title}: deploying")
    async with compare_guests.made(stage, kind) as (guest, seconds):
        measured.add("deploy", seconds)
        progress.step(life * 0.7, f"{title}: starting")
        measured.add("start", await compare_guests.start(stage, kind, guest))
        if whole:
            found = await _look(run, guest, measured, title)
        progress.step(life * 0.1, f"{title}: stopping")
        measured.add("stop", await compare_guests.stop(stage, kind, guest))
    return found


async def _look(run: _Run, guest: Guest, measured: Measured, title: str) -> tuple[dict[str, str], dict[str, str]]:
    rooms, progress = run.stage.rooms, run.progress
    progress.step(run.asked.settling, f"{title}: memory while idle")
    await asyncio.sleep(run.asked.settling)
    await compare_measure.idle(rooms, guest, measured)
    found = await compare_measure.facts_of(rooms, guest)
    progress.step(5, f"{title}: bringing the tools")
    why = run.why
    if not why:
        try:
            await compare_tools.carry(rooms, run.donor, guest, run.stage.address)
        except BastideError as error:
            why = f"the tools could not be brought into the guest: {' '.join(str(error).split())[-200:]}"
    await compare_measure.work(
        compare_measure.in_guest(rooms, guest),
        run.suite,
        measured,
        lambda one: progress.step(4, f"{title}: {TITLES[one]}"),
        lacks=why,
    )
    return found


async def _host(rooms: Rooms, asked: Asked) -> dict[str, str]:
    """What this machine is, as far as figures depend on it."""
    accelerator, reason = rooms.vms.accelerator
    emulator = None
    if asked.vm:
        with contextlib.suppress(BastideError):  # a VM cannot be measured then, and its part says so
            emulator = (await qemu_facts.host_facts()).emulator
    kind = (await rooms.storages.containers(asked.storage)).config.type
    return {
        "processor": measure.processor(),
        "memory": f"{sampling.memory().total / 2**30:.1f} GiB",
        "kernel": os.uname().release,
        "lxc": abilities.lxc_version() or "unknown",
        **({"qemu": ".".join(map(str, emulator.version))} if emulator is not None else {}),
        "accelerator": "KVM" if accelerator == "kvm" else f"none, VMs are emulated: {reason}",
        "storage": f"{asked.storage} ({kind})",
        "load": f"{os.getloadavg()[0]:.2f} as the comparison began",
    }


async def latest(rooms: Rooms) -> Comparison | None:
    """The newest comparison of this host, or None when it was never measured."""
    entries = await rooms.store.list(_PREFIX)
    return Comparison.model_validate_json(entries[-1].value) if entries else None


async def kept(rooms: Rooms) -> list[Comparison]:
    """All comparisons that are kept, newest first."""
    return [Comparison.model_validate_json(entry.value) for entry in reversed(await rooms.store.list(_PREFIX))]


async def taken_at(rooms: Rooms, taken: str) -> Comparison:
    """The comparison of that moment. Raises NotFound."""
    entry = await rooms.store.get(f"{_PREFIX}{taken}")
    if entry is None:
        raise NotFound(f"a comparison taken at '{taken[:60]}' does not exist")
    return Comparison.model_validate_json(entry.value)


async def keep(rooms: Rooms, comparison: Comparison) -> None:
    """Keep a comparison, and forget the oldest beyond `KEPT`."""
    await rooms.store.put(f"{_PREFIX}{comparison.taken}", comparison.model_dump_json())
    entries = await rooms.store.list(_PREFIX)
    for entry in entries[:-KEPT]:
        await rooms.store.delete(entry.key)
