"""What guests are and do now: the rows that lists, status and resources answer.

Thousands of guests are listed at once, so a row is built from the record's text without validating it again.
"""

import time
from typing import Any

from bastide.base import units
from bastide.metrics.sampler import guest_cpus, guest_disk, guest_memory
from bastide.model.guest import Guest, GuestState
from bastide.operations.rooms import Rooms

_DEFAULT_MIB = 512
_LIVE = ("cpu", "cpus", "mem", "swap", "netin", "netout", "diskread", "diskwrite")


async def list_containers(rooms: Rooms) -> list[dict[str, Any]]:
    """A row for each container, as `GET /nodes/{node}/lxc` answers it."""
    return [guest_row(rooms, guest) for guest in await rooms.guests.list() if guest.kind == "lxc"]


async def container_status(rooms: Rooms, vmid: int) -> dict[str, Any]:
    """A container's row with what only a single look affords, as `GET status/current` answers it."""
    guest = await rooms.guests.get(vmid)
    row = guest_row(rooms, guest)
    row["ha"] = {"managed": 0}
    usage = rooms.containers.usage(vmid)
    if usage is not None:
        row |= {"mem": usage.memory, "swap": usage.swap, "diskread": usage.disk_read, "diskwrite": usage.disk_written}
        row["pid"] = rooms.containers.init_pid(vmid)
        row["netin"], row["netout"] = rooms.containers.traffic(vmid)
    return row


def guest_row(rooms: Rooms, guest: Guest) -> dict[str, Any]:
    """State, limits and latest figures of a guest; memory is its working set in bytes, `cpu` a fraction of `cpus`."""
    config = guest.config
    row: dict[str, Any] = {
        "vmid": guest.vmid,
        "type": guest.kind,
        "name": guest.name,
        "status": "stopped",
        "cpus": guest_cpus(guest),
        "maxmem": guest_memory(guest),
        "maxswap": int(config.get("swap", _DEFAULT_MIB)) * units.MIB,
        "maxdisk": guest_disk(guest) or 0,
        "cpu": 0,
        "mem": 0,
        "swap": 0,
        "disk": 0,
        "diskread": 0,
        "diskwrite": 0,
        "netin": 0,
        "netout": 0,
        "uptime": 0,
    }
    row |= {key: config[key] for key in ("tags", "template", "lock") if key in config}
    state = rooms.containers.state(guest.vmid)
    if state is not GuestState.STOPPED:
        row["status"] = GuestState.RUNNING.value
        if state is GuestState.PAUSED:
            row["lock"] = "suspended"
        row["uptime"] = max(0, int(time.time() - (rooms.containers.started_at(guest.vmid) or time.time())))
        live = rooms.sampler.live(guest)
        if live is not None:
            row |= {key: getattr(live, key) for key in _LIVE}
            row["disk"] = live.disk or 0
    return row


async def interfaces(rooms: Rooms, vmid: int) -> list[dict[str, Any]]:
    """The interfaces of a running container with their addresses, as its own kernel tells them."""
    await rooms.guests.get(vmid)
    found: dict[str, dict[str, Any]] = {}
    if rooms.containers.state(vmid) is GuestState.STOPPED:
        return []
    for address in await rooms.containers.addresses(vmid):
        family = "inet6" if ":" in address.address else "inet"
        row = found.setdefault(
            address.interface,
            {
                "name": address.interface,
                "hwaddr": address.hwaddr,
                "hardware-address": address.hwaddr,
                "ip-addresses": [],
            },
        )
        row.setdefault(family, f"{address.address}/{address.prefix}")
        row["ip-addresses"].append({"ip-address": address.address, "prefix": address.prefix, "ip-address-type": family})
    return list(found.values())
