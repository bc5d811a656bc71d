"""The one place that builds the rooms and hands them to each other."""

import asyncio
import ipaddress
import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from bastide.access.access import Access
from bastide.base.errors import WrongState
from bastide.base.layout import Layout
from bastide.daemon.settings import Asked, Settings, load
from bastide.guest.engines import Engines
from bastide.guest.lxc.engine import LxcEngine
from bastide.guest.qemu.engine import QemuEngine
from bastide.guest.registry import Guests
from bastide.host.cgroups import host_cgroups
from bastide.host.filesystems import mounts_within, unmount
from bastide.metrics.sampler import MeasuredStorage, Sampler
from bastide.model.guest import Guest
from bastide.network.bridge import NatNetwork, forgotten
from bastide.network.subnets import choose_for_host
from bastide.operations.records import READERS
from bastide.operations.rooms import Rooms
from bastide.operations.volumes import used_by
from bastide.state.checked import CheckedStore
from bastide.state.sqlite import SqliteStore
from bastide.storage.registry import Storages
from bastide.tasks.locks import GuestLocks
from bastide.tasks.tasks import Tasks


@dataclass(frozen=True, slots=True)
class House:
    """Everything the daemon runs."""

    settings: Settings
    rooms: Rooms
    containers: LxcEngine
    vms: QemuEngine
    network: NatNetwork
    store: CheckedStore


async def build(layout: Layout, asked: Asked) -> House:
    """Open the store and build every room. Nothing of the host is touched yet.

    Raises HostFailure when another daemon has the store open or it is damaged, InvalidParameter for settings.
    """
    store = await CheckedStore.over(await SqliteStore.open(layout.state / "bastide.db"), READERS)
    try:
        settings = await load(store, asked, lambda: choose_for_host(layout.instance))
        return _assemble(layout, store, settings)
    except BaseException:
        await store.close()
        raise


def _assemble(layout: Layout, store: CheckedStore, settings: Settings) -> House:
    containers, vms = LxcEngine(layout), QemuEngine(layout)
    engines = Engines(containers, vms)
    network = NatNetwork(
        layout,
        settings.bridge,
        ipaddress.IPv4Interface(settings.ipv4),
        ipaddress.IPv6Interface(settings.ipv6),
    )
    guests = Guests(store, settings.node)
    storages = Storages(store, layout, node=settings.node)

    async def list_storages() -> Sequence[MeasuredStorage]:
        return [storage for storage in await storages.all() if storages.enabled(storage.config)]

    async def disk_used(guest: Guest) -> int | None:
        return await used_by(storages, guest)

    sampler = Sampler(
        layout,
        settings.node,
        engines,
        list_guests=guests.list,
        list_storages=list_storages,
        disk_used=disk_used,
    )
    rooms = Rooms(
        node=settings.node,
        layout=layout,
        store=store,
        tasks=Tasks(store, layout, settings.node),
        locks=GuestLocks(store),
        guests=guests,
        engines=engines,
        storages=storages,
        network=network,
        sampler=sampler,
        access=Access(store, settings.node, layout),
    )
    return House(settings, rooms, containers, vms, network, store)


async def forget_lost(layout: Layout, containers: LxcEngine, vms: QemuEngine, network: NatNetwork) -> None:
    """Remove from the host what a Bastide whose folder was removed has left there: bridge, rules, dnsmasq, lxcfs.

    Raises WrongState while processes of its guests run: nothing is known of them any more.
    """
    if left := host_cgroups().processes(layout.instance):
        numbers = " ".join(str(pid) for pid in sorted(left)[:10])
        raise WrongState(
            f"processes of guests still run, of which nothing is known any more: end them first ({numbers})"
        )
    await network.stop(purge=True)
    await vms.purge()
    await containers.purge()


async def purge(layout: Layout) -> None:
    """Remove every trace of a Bastide whose daemon has ended and whose guests are gone.

    Raises WrongState while guests exist: their volumes would be lost with the state. Where the state is gone already,
    what is left of it on the host goes.
    """
    if (layout.state / "bastide.db").exists():
        house = await build(layout, Asked())
        try:
            if await house.rooms.guests.list():
                raise WrongState("guests exist: remove them first, or use down --purge --force")
            if unreadable := house.rooms.guests.unreadable():
                raise WrongState(
                    f"the records of the guests {', '.join(map(str, sorted(unreadable)))} cannot be read: "
                    "remove them with bastide record remove first"
                )
            await house.network.stop(purge=True)
            await house.vms.purge()
            await house.containers.purge()
            await house.rooms.storages.detach_all()
        finally:
            house.rooms.sampler.close()
            await house.store.close()
    else:
        await forget_lost(layout, LxcEngine(layout), QemuEngine(layout), forgotten(layout))
    for folder in (layout.runtime, layout.logs, layout.state):
        if folder.is_dir():
            for mounted in reversed(mounts_within(folder)):
                await unmount(mounted)
            await asyncio.to_thread(shutil.rmtree, folder)
    if layout.root is not None and layout.root.is_dir() and not any(layout.root.iterdir()):
        layout.root.rmdir()
