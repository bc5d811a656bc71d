"""What guests are and do now: the rows that lists, status and resources answer.

Thousands of guests are listed at once, so a row is built from the record's text without validating it again.
"""

import asyncio
import time
from typing import Any

from bastide.base import units
from bastide.guest.vm_protocol import DiskCounters, VmStatus
from bastide.metrics.sampler import guest_cpus, guest_disk, guest_memory
from bastide.model.guest import Guest, GuestState
from bastide.model.vm import VmConfig
from bastide.operations.rooms import Rooms

_DEFAULT_MIB = 512
_LIVE = ("cpu", "cpus", "mem", "netin", "netout", "diskread", "diskwrite")


async def list_containers(rooms: Rooms) -> list[dict[str, Any]]:
    """A row for each container, as `GET /nodes/{node}/lxc` answers it."""
    return [_container_row(rooms, guest) for guest in await rooms.guests.list() if guest.kind == "lxc"]


async def list_vms(rooms: Rooms, *, full: bool = False) -> list[dict[str, Any]]:
    """A row for each VM, as `GET /nodes/{node}/qemu` answers it; with `full`, what QEMU says of each running one."""
    guests = [guest for guest in await rooms.guests.list() if guest.kind == "qemu"]
    if full:
        return list(await asyncio.gather(*(_full_vm_row(rooms, guest) for guest in guests)))
    return [_vm_row(rooms, guest, rooms.vms.known_status(guest.vmid)) for guest in guests]


async def container_status(rooms: Rooms, vmid: int) -> dict[str, Any]:
    """A container's row with what only a single look affords, as `GET status/current` answers it."""
    guest = await rooms.guests.get(vmid, "lxc")
    row = _container_row(rooms, guest)
    row |= {"ha": {"managed": 0}, **await _backup_lock(rooms, vmid)}
    usage = rooms.containers.usage(vmid)
    if usage is not None:
        row |= {"mem": usage.memory, "swap": usage.swap, "diskread": usage.disk_read, "diskwrite": usage.disk_written}
        row["pid"] = rooms.containers.init_pid(vmid)
        row["netin"], row["netout"] = rooms.containers.traffic(vmid)
    return row


async def vm_status(rooms: Rooms, vmid: int) -> dict[str, Any]:
    """A VM's row with what QEMU says now, as `GET status/current` answers it; within 2 s whatever QEMU does.

    `accelerator` and `warning` say how it runs and, without KVM, why it is slow; `error` what it stumbled over.
    """
    guest = await rooms.guests.get(vmid, "qemu")
    row = await _full_vm_row(rooms, guest)
    accelerator, why = rooms.vms.accelerator
    row["accelerator"] = row.get("accelerator", accelerator)
    if row["accelerator"] == "tcg":
        row["warning"] = f"emulated without KVM, and slow: {why or 'kvm=0'}"
    config = VmConfig.parse(guest.config)
    row |= {"ha": {"managed": 0}, "agent": int(config.agent_enabled), "spice": int(_has_spice(config))}
    row |= await _backup_lock(rooms, vmid)
    row |= {"serial": 1} if config.serial else {}
    if rooms.vms.state(vmid) is not GuestState.STOPPED:
        row["pid"] = rooms.vms.init_pid(vmid)
        row["netin"], row["netout"] = rooms.vms.traffic(vmid)
    return row


async def _backup_lock(rooms: Rooms, vmid: int) -> dict[str, str]:
    """The lock that Proxmox VE would show of a guest that is being saved: here it is no part of the configuration."""
    held = await rooms.locks.get(vmid)
    return {"lock": "backup"} if held is not None and held.action == "backup" else {}


def _has_spice(config: VmConfig) -> bool:
    return config.vga is not None and (config.vga.type or "").startswith("qxl")


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
        "maxdisk": guest_disk(guest) or 0,
        "cpu": 0,
        "mem": 0,
        "disk": 0,
        "diskread": 0,
        "diskwrite": 0,
        "netin": 0,
        "netout": 0,
        "uptime": 0,
    }
    row |= {key: config[key] for key in ("tags", "template", "lock") if key in config}
    engine = rooms.engine(guest)
    if engine.state(guest.vmid) is not GuestState.STOPPED:
        row["status"] = GuestState.RUNNING.value
        row["uptime"] = max(0, int(time.time() - (engine.started_at(guest.vmid) or time.time())))
        live = rooms.sampler.live(guest)
        if live is not None:
            row |= {key: getattr(live, key) for key in _LIVE} | live.pressure
            row["disk"] = live.disk or 0
    return row


def _container_row(rooms: Rooms, guest: Guest) -> dict[str, Any]:
    row = guest_row(rooms, guest)
    row |= {"maxswap": int(guest.config.get("swap", _DEFAULT_MIB)) * units.MIB, "swap": 0}
    state = rooms.containers.state(guest.vmid)
    if state is GuestState.PAUSED:
        row["lock"] = "suspended"
    if state is not GuestState.STOPPED:
        live = rooms.sampler.live(guest)
        row["swap"] = live.swap if live is not None else 0
    return row


async def _full_vm_row(rooms: Rooms, guest: Guest) -> dict[str, Any]:
    return _vm_row(rooms, guest, await rooms.vms.status(guest.vmid))


def _vm_row(rooms: Rooms, guest: Guest, status: VmStatus | None) -> dict[str, Any]:
    row = guest_row(rooms, guest)
    if status is None:
        return {**row, "qmpstatus": "stopped"}
    row |= {"qmpstatus": status.state, "memhost": row["mem"], "accelerator": status.accelerator}
    known = {"running-machine": status.machine, "running-qemu": status.qemu, "error": status.error}
    row |= {key: value for key, value in known.items() if value}
    if status.guest_total is not None and status.guest_free is not None:
        row["mem"] = status.guest_total - status.guest_free
        row["freemem"] = status.guest_free
    if status.balloon is not None:
        row["balloon"] = status.balloon
        row["ballooninfo"] = {"actual": status.balloon, "max_mem": row["maxmem"]}
        if status.guest_total is not None:
            row["ballooninfo"] |= {"total_mem": status.guest_total, "free_mem": status.guest_free}
    if status.disks:
        row["blockstat"] = {key: _disk_row(counters) for key, counters in status.disks.items()}
        row["diskread"] = sum(counters.read for counters in status.disks.values())
        row["diskwrite"] = sum(counters.written for counters in status.disks.values())
    return row


def _disk_row(counters: DiskCounters) -> dict[str, int]:
    return {
        "rd_bytes": counters.read,
        "wr_bytes": counters.written,
        "rd_operations": counters.reads,
        "wr_operations": counters.writes,
    }


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
