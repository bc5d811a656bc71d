"""The rows of `GET /cluster/resources`: guests, storages and the node, with their latest figures.

Ten thousand guests are listed at once: only those that run are looked at, and what a stopped one shows is kept until
its record changes.
"""

import time
from collections.abc import Sequence
from typing import Any

from bastide.metrics.sampler import guest_cpus, guest_disk, guest_memory
from bastide.model.guest import Guest
from bastide.operations import pools
from bastide.operations.rooms import Rooms
from bastide.operations.storages import usage_soon
from bastide.storage.protocol import Storage

_still: dict[int, tuple[Guest, dict[str, Any]]] = {}
_LIVE = ("cpu", "mem", "netin", "netout", "diskread", "diskwrite")


async def guest_rows(rooms: Rooms, guests: Sequence[Guest]) -> list[dict[str, Any]]:
    """A row for each guest, in their order."""
    running = rooms.engines.running()
    pool_of = {vmid: pool.poolid for pool in await pools.list_pools(rooms) for vmid in pool.guests}
    rows = []
    for guest in guests:
        row = _still_row(guest)
        if guest.vmid in running:
            row = {**row, **_figures(rooms, guest)}
        if guest.vmid in pool_of:
            row = {**row, "pool": pool_of[guest.vmid]}
        rows.append(row)
    _forget_gone(guests)
    return rows


def _forget_gone(guests: Sequence[Guest]) -> None:
    if len(_still) > 2 * len(guests) + 100:
        for vmid in set(_still) - {guest.vmid for guest in guests}:
            del _still[vmid]


def node_row(rooms: Rooms, pveversion: str) -> dict[str, Any]:
    """The node's row; memory and disk in bytes, `cpu` a fraction of `maxcpu`."""
    status = rooms.sampler.node_status(pveversion)
    return {
        "id": f"node/{rooms.node}",
        "type": "node",
        "node": rooms.node,
        "status": "online",
        "level": "",
        "cpu": status["cpu"],
        "maxcpu": status["cpuinfo"]["cpus"],
        "mem": status["memory"]["used"],
        "maxmem": status["memory"]["total"],
        "disk": status["rootfs"]["used"],
        "maxdisk": status["rootfs"]["total"],
        "uptime": status["uptime"],
    }


async def storage_row(rooms: Rooms, storage: Storage) -> dict[str, Any]:
    """A storage's row, in bytes."""
    config = storage.config
    enabled = rooms.storages.enabled(config)
    usage = await usage_soon(storage) if enabled else None
    return {
        "id": f"storage/{rooms.node}/{config.storage}",
        "type": "storage",
        "storage": config.storage,
        "node": rooms.node,
        "status": "available" if usage is not None and usage.active else "unknown",
        "plugintype": config.type,
        "content": ",".join(sorted(config.contents)),
        "shared": int(config.shared),
        "disk": usage.used if usage else 0,
        "maxdisk": usage.total if usage else 0,
    }


def _still_row(guest: Guest) -> dict[str, Any]:
    """The row of a guest that does not run; must not be changed."""
    kept = _still.get(guest.vmid)
    if kept is not None and kept[0] is guest:
        return kept[1]
    row: dict[str, Any] = {
        "id": f"{guest.kind}/{guest.vmid}",
        "type": guest.kind,
        "vmid": guest.vmid,
        "node": guest.node,
        "name": guest.name,
        "status": "stopped",
        "template": int(guest.config.get("template", 0)),
        "maxcpu": guest_cpus(guest),
        "maxmem": guest_memory(guest),
        "maxdisk": guest_disk(guest) or 0,
        "cpu": 0,
        "mem": 0,
        "disk": 0,
        "netin": 0,
        "netout": 0,
        "diskread": 0,
        "diskwrite": 0,
        "uptime": 0,
    }
    row |= {name: guest.config[name] for name in ("tags", "lock") if name in guest.config}
    _still[guest.vmid] = (guest, row)
    return row


def _figures(rooms: Rooms, guest: Guest) -> dict[str, Any]:
    now = time.time()
    figures: dict[str, Any] = {
        "status": "running",
        "uptime": max(0, int(now - (rooms.engine(guest).started_at(guest.vmid) or now))),
    }
    sampled = rooms.sampler.sampled(guest)
    if sampled is not None:
        figures |= {name: getattr(sampled, name) for name in _LIVE}
        figures["disk"] = sampled.disk or 0
    return figures
