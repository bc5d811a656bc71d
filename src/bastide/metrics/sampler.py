"""Samples the node and its guests: every ten seconds for live rates, every minute into the series.

A sample costs a few reads of kernel files per running guest and no process. What is sampled are counters; a minute's
value in the series is the mean over that minute, not a snapshot of the last ten seconds.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bastide.base.errors import BastideError, InvalidParameter
from bastide.base.layout import Layout
from bastide.base.units import MIB, parse_size
from bastide.host import facts, sampling
from bastide.metrics import rates
from bastide.metrics.series import Consolidation, Kind, Series, Timeframe, Values
from bastide.model.guest import Guest, Usage
from bastide.model.storage import StorageConfig, StorageUsage

INTERVAL = 10.0
"""Seconds between two looks for live rates."""

MINUTE = 60.0

_DISK = re.compile(r"(ide|sata|scsi|virtio)\d+", re.ASCII)
_log = logging.getLogger(__name__)


class Guests(Protocol):
    """The part of the guest room that the sampler looks through."""

    def running(self) -> Collection[int]:
        """The guests that run."""

    def started_at(self, vmid: int) -> float | None:
        """When a guest started."""

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """A running guest's counters; with `stalls` also where its work waited, which takes as many reads again."""

    def traffic(self, vmid: int) -> tuple[int, int]:
        """Bytes a running guest received and sent."""


class MeasuredStorage(Protocol):
    """A storage whose space is sampled."""

    @property
    def config(self) -> StorageConfig:
        """Its configuration."""

    async def usage(self) -> StorageUsage:
        """Its space."""


@dataclass(frozen=True, slots=True)
class LiveRates:
    """A running guest now. `cpu` is the fraction of its `cpus` in use over the last interval; memory in bytes.

    `netin`, `netout`, `diskread` and `diskwrite` are bytes since its start; `rates` holds them as bytes a second.
    """

    cpu: float
    cpus: float
    mem: int
    swap: int
    netin: int
    netout: int
    diskread: int
    diskwrite: int
    disk: int | None
    processes: int
    rates: rates.GuestRates

    @property
    def pressure(self) -> dict[str, float]:
        """Percent of the last interval in which work waited, by Proxmox VE's names: `pressurecpusome` ..."""
        return _pressure(self.rates)


@dataclass(slots=True)
class _Seen:
    """What is kept of a running guest: its last look, the one before, and the one at the last minute."""

    counters: rates.GuestCounters
    usage: Usage
    live: rates.GuestRates
    minute: rates.GuestCounters | None = None


@dataclass(slots=True)
class _NodeSeen:
    counters: rates.NodeCounters
    live: rates.NodeRates = field(default_factory=rates.NodeRates)
    minute: rates.NodeCounters | None = None


class Sampler:
    """Live figures and time series of one node.

    `list_guests` gives all guest records, `list_storages` all storages, `disk_used` the bytes that a guest's root
    file system takes or None where the storage cannot tell. Nothing is sampled before `run` (or `sample`) is called.
    """

    def __init__(
        self,
        layout: Layout,
        node: str,
        guests: Guests,
        *,
        list_guests: Callable[[], Awaitable[Sequence[Guest]]],
        list_storages: Callable[[], Awaitable[Sequence[MeasuredStorage]]],
        disk_used: Callable[[Guest], Awaitable[int | None]] | None = None,
    ) -> None:
        self._node = node
        self._guests = guests
        self._list_guests = list_guests
        self._list_storages = list_storages
        self._disk_used = disk_used
        self._series = Series(layout.state / "metrics.db")
        self._seen: dict[int, _Seen] = {}
        self._disks: dict[int, int] = {}
        self._node_seen = _NodeSeen(_node_counters())

    async def run(self) -> None:
        """Sample until cancelled. A failed sample is logged, never the end of sampling."""
        next_minute = _next_minute(time.time())
        while True:
            try:
                await self.sample()
                now = time.time()
                # Beyond two minutes away the clock was set back: start over from it.
                if now >= next_minute or next_minute - now > 2 * MINUTE:
                    next_minute = _next_minute(now)
                    await self.record(now)
            except asyncio.CancelledError:
                raise
            except Exception:
                _log.exception("a sample of the metrics failed")
            now = time.time()
            await asyncio.sleep(max(0.1, min(INTERVAL - now % INTERVAL, next_minute - now)))

    def close(self) -> None:
        """Release the file of the series."""
        self._series.close()

    async def sample(self) -> None:
        """Look at the counters of the node and of every running guest."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        counters = _node_counters()
        earlier = self._node_seen
        self._node_seen = _NodeSeen(counters, rates.node_rates(earlier.counters, counters), earlier.minute)
        seen: dict[int, _Seen] = {}
        for vmid in self._guests.running():
            # A guest may stop between being listed and being looked at.
            with contextlib.suppress(OSError, BastideError):
                self._look_at(vmid, seen)
        self._seen = seen

    def _look_at(self, vmid: int, seen: dict[int, _Seen]) -> None:
        usage = self._guests.usage(vmid, stalls=True)
        if usage is None:
            return
        netin, netout = self._guests.traffic(vmid)
        counters = rates.GuestCounters(
            at=time.monotonic(),
            began=self._guests.started_at(vmid),
            cpu_seconds=usage.cpu_seconds,
            netin=netin,
            netout=netout,
            diskread=usage.disk_read,
            diskwrite=usage.disk_written,
            pressure=usage.pressure,
        )
        earlier = self._seen.get(vmid)
        seen[vmid] = _Seen(
            counters,
            usage,
            rates.guest_rates(earlier.counters if earlier else None, counters),
            earlier.minute if earlier else None,
        )

    async def record(self, moment: float) -> None:
        """Write the minute that ended at `moment` (seconds since the epoch) into the series."""
        guests = {guest.vmid: guest for guest in await self._list_guests()}
        await self._measure_disks(guests)
        rows: list[tuple[Kind, str, Values]] = [("node", self._node, self._node_values())]
        for vmid, seen in self._seen.items():
            if vmid in guests:
                rows.append(("guest", str(vmid), self._guest_values(guests[vmid], seen)))
        storages = await self._list_storages()
        for storage in storages:
            space = await self._space(storage)
            if space is not None:
                rows.append(("storage", storage.config.storage, {"total": space.total, "used": space.used}))
        names = {storage.config.storage for storage in storages}
        await asyncio.to_thread(self._write, moment, rows, {str(vmid) for vmid in guests}, names)

    def _write(
        self, moment: float, rows: list[tuple[Kind, str, Values]], guests: Collection[str], storages: Collection[str]
    ) -> None:
        existing: tuple[tuple[Kind, Collection[str]], ...] = (("guest", guests), ("storage", storages))
        for kind, present in existing:
            for name in self._series.names(kind):
                if name not in present:
                    self._series.remove(kind, name)
        self._series.record(moment, rows)

    async def _measure_disks(self, guests: Mapping[int, Guest]) -> None:
        disks: dict[int, int] = {}
        if self._disk_used is not None:
            for vmid in self._seen:
                if vmid in guests:
                    # A volume that is just being moved or removed has no figure this minute.
                    with contextlib.suppress(BastideError, OSError):
                        used = await self._disk_used(guests[vmid])
                        if used is not None:
                            disks[vmid] = used
        self._disks = disks

    async def _space(self, storage: MeasuredStorage) -> StorageUsage | None:
        try:
            usage = await storage.usage()
        except (BastideError, OSError):
            return None
        return usage if usage.active else None

    def _guest_values(self, guest: Guest, seen: _Seen) -> Values:
        mean = rates.guest_rates(seen.minute, seen.counters)
        seen.minute = seen.counters
        cpus = guest_cpus(guest)
        return {
            "cpu": None if mean.cpu is None else mean.cpu / cpus,
            "maxcpu": cpus,
            "mem": seen.usage.memory,
            "maxmem": guest_memory(guest),
            "disk": self._disks.get(guest.vmid),
            "maxdisk": guest_disk(guest),
            "netin": mean.netin,
            "netout": mean.netout,
            "diskread": mean.diskread,
            "diskwrite": mean.diskwrite,
            **_pressure(mean),
        }

    def _node_values(self) -> Values:
        seen = self._node_seen
        mean = rates.node_rates(seen.minute, seen.counters)
        seen.minute = seen.counters
        memory = sampling.memory()
        root = facts.space(Path("/"))
        pressure = sampling.pressure()
        return {
            "cpu": mean.cpu,
            "maxcpu": facts.cpu_count(),
            "iowait": mean.iowait,
            "loadavg": float(sampling.load_averages()[0]),
            "memtotal": memory.total,
            "memused": memory.used,
            "memavailable": memory.available,
            "swaptotal": memory.swap_total,
            "swapused": memory.swap_used,
            "roottotal": root.total,
            "rootused": root.used,
            "netin": mean.netin,
            "netout": mean.netout,
            **{f"pressure{name.replace(' ', '')}": share for name, share in pressure.items()},
        }

    def live(self, guest: Guest) -> LiveRates | None:
        """A running guest's figures: counters as of now, rates over the last interval; None when it does not run."""
        usage = self._guests.usage(guest.vmid)
        if usage is None:
            return None
        try:
            netin, netout = self._guests.traffic(guest.vmid)
        except (OSError, BastideError):
            netin = netout = 0
        seen = self._seen.get(guest.vmid)
        return self._figures(guest, usage, (netin, netout), seen)

    def sampled(self, guest: Guest) -> LiveRates | None:
        """Like `live`, but everything as of the last sample: for lists of many guests; costs no system call."""
        seen = self._seen.get(guest.vmid)
        if seen is None:
            return None
        return self._figures(guest, seen.usage, (seen.counters.netin, seen.counters.netout), seen)

    def _figures(self, guest: Guest, usage: Usage, traffic: tuple[int, int], seen: _Seen | None) -> LiveRates:
        cpus, live = guest_cpus(guest), seen.live if seen else rates.GuestRates()
        return LiveRates(
            cpu=(live.cpu or 0.0) / cpus,
            cpus=cpus,
            mem=usage.memory,
            swap=usage.swap,
            netin=traffic[0],
            netout=traffic[1],
            diskread=usage.disk_read,
            diskwrite=usage.disk_written,
            disk=self._disks.get(guest.vmid),
            processes=usage.processes,
            rates=live,
        )

    def node_live(self) -> rates.NodeRates:
        """The machine's rates over the last interval; nothing is known before the second look."""
        return self._node_seen.live

    def node_status(self, pveversion: str) -> dict[str, Any]:
        """The body of `GET /nodes/{node}/status`."""
        live = self.node_live()
        return facts.node_status(cpu=live.cpu or 0.0, wait=live.iowait or 0.0, pveversion=pveversion)

    async def rrddata(
        self, target: str, timeframe: Timeframe, cf: Consolidation = "AVERAGE"
    ) -> list[dict[str, float | int]]:
        """Rows of `node/NAME`, `guest/VMID` or `storage/ID`, oldest first; see Series.read.

        Raises InvalidParameter when the target is none of these.
        """
        word, _, name = target.partition("/")
        kinds: dict[str, Kind] = {"node": "node", "guest": "guest", "storage": "storage"}
        if word not in kinds:
            raise InvalidParameter({"target": f"'{word[:20]}' has no metrics"})
        return await asyncio.to_thread(self._series.read, kinds[word], name, timeframe, cf)


def guest_cpus(guest: Guest) -> float:
    """Processors a guest may use: its limit, else its cores (a VM's virtual ones), else all of the machine's."""
    limit = float(guest.config.get("cpulimit", 0))
    if guest.kind == "qemu":
        sockets = int(guest.config.get("sockets", guest.config.get("smp", 1)))
        every = sockets * int(guest.config.get("cores", 1))
        return limit or min(int(guest.config.get("vcpus", every)), every)
    cores = int(guest.config.get("cores", 0))
    return limit or cores or facts.cpu_count()


def guest_memory(guest: Guest) -> int:
    """Memory limit in bytes."""
    return int(str(guest.config.get("memory", 512)).removeprefix("current=")) * MIB


def guest_disk(guest: Guest) -> int | None:
    """Size of the root file system or of a VM's first disk in bytes, or None when it has no limit."""
    for part in str(guest.config.get(_root_key(guest), "")).split(","):
        key, _, value = part.partition("=")
        if key == "size":
            with contextlib.suppress(ValueError):
                return parse_size(value)
    return None


def _root_key(guest: Guest) -> str:
    """The option that holds what the guest boots from: the first disk of its boot order, else the first disk."""
    if guest.kind == "lxc":
        return "rootfs"
    disks = [key for key, value in guest.config.items() if _DISK.fullmatch(key) and "media=cdrom" not in str(value)]
    order = str(guest.config.get("boot", "")).partition("order=")[2].split(";")
    return next((key for key in [*order, str(guest.config.get("bootdisk", "")), *sorted(disks)] if key in disks), "")


def _pressure(of: rates.GuestRates) -> dict[str, float]:
    return {f"pressure{name.replace(' ', '')}": round(share, 2) for name, share in of.pressure.items()}


def _node_counters() -> rates.NodeCounters:
    times = sampling.cpu_times()
    netin, netout = sampling.network_bytes()
    return rates.NodeCounters(
        at=time.monotonic(),
        cpu_total=times.total,
        cpu_idle=times.idle,
        cpu_iowait=times.iowait,
        netin=netin,
        netout=netout,
    )


def _next_minute(moment: float) -> float:
    return (moment // MINUTE + 1) * MINUTE
