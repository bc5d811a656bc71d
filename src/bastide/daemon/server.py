"""The daemon's life: build, recover, bring up the network, serve, and leave the guests running."""

import asyncio
import logging
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bastide import __version__
from bastide.api.app import create_app
from bastide.api.services import Services
from bastide.api.spice import Tunnel, with_tunnel
from bastide.base.errors import BastideError, HostFailure
from bastide.base.layout import Layout
from bastide.daemon.boot import first_since_boot
from bastide.daemon.build import House, build, forget_lost
from bastide.daemon.settings import Asked
from bastide.host import processes, service, threads
from bastide.host.certificate import ensure_certificate
from bastide.host.links import primary_address
from bastide.model.access import ROOT
from bastide.operations import bases
from bastide.operations.autostart import start_all, stop_all
from bastide.operations.backup import jobs, proof_jobs, stopping
from bastide.operations.backup.schedule import Scheduler
from bastide.operations.disk_folders import mount_recorded
from bastide.operations.recover import let_go, recover
from bastide.operations.watch import watch_stops
from bastide.web.serve import serve

_log = logging.getLogger("bastide")
_LOST_SECONDS = 5.0
_DESCRIPTORS = 16384
_THREADS = min(32, (os.cpu_count() or 1) + 4)  # what asyncio's own executor has


async def run_daemon(layout: Layout, asked: Asked) -> None:
    """Serve until SIGTERM or SIGINT. Guests go on running after the end, unless the machine itself stops."""
    os.umask(0o077)
    _have_room()
    threads.watch_children_without_threads()
    asyncio.get_running_loop().set_default_executor(threads.begun(_THREADS, "thread"))
    for folder in (layout.state, layout.runtime, layout.logs):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    house = await build(layout, asked)
    try:
        async with _pid_file(layout.pid_file):
            await _prepare(house)
            await _serve(house)
    finally:
        await house.rooms.tasks.shutdown()
        await house.rooms.views.close()
        await house.rooms.network.stop(purge=False)
        if layout.root is not None and not (layout.state / "bastide.db").exists():
            await _leave_nothing(house)
        await house.rooms.access.close()
        await house.vms.close()
        house.rooms.sampler.close()
        await house.store.close()


def _have_room() -> None:
    """Have descriptors for every stream of the web process besides the guests': a shell gives 1,024 (setrlimit(2))."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < _DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_DESCRIPTORS, hard), hard))


async def _prepare(house: House) -> None:
    """Everything before the first request: storages, engine, recovery, network."""
    rooms = house.rooms
    await house.containers.prepare()
    await house.vms.prepare()
    await let_go(rooms)
    await mount_recorded(rooms)
    for problem in await rooms.storages.start():
        _log.error("storage: %s", problem)
    await recover(rooms)
    try:
        await rooms.network.start()
    except HostFailure as error:
        # Guests on a bridge of the user's need none of ours: the daemon serves, and the log and doctor say why.
        _log.error("the bridge '%s' could not be brought up: %s", house.settings.bridge, error)


async def _serve(house: House) -> None:
    rooms, settings = house.rooms, house.settings
    address = primary_address() or "127.0.0.1"
    certificate, key = ensure_certificate(rooms.layout.state, settings.node, [address])
    services = Services(
        rooms=rooms,
        access=rooms.access,
        sampler=rooms.sampler,
        version=__version__,
        address=address,
        port=settings.port,
        bridge=settings.bridge,
        started=time.time(),
    )
    services.audit.begin()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lost = _end_when_lost(rooms.layout, stop)
    timed = Scheduler(rooms, [jobs.source(), proof_jobs.VERIFY.timed, proof_jobs.RESTORE_TESTS.timed]).run()
    starting = (_autostart(house), stopping.finish(rooms))
    async with _background(watch_stops(rooms), rooms.sampler.run(), bases.tidy(rooms), timed, *starting, lost):
        await serve(
            with_tunnel(create_app(services), Tunnel(services)),
            listen=settings.listen,
            port=settings.port,
            certificate=certificate,
            key=key,
            unix_socket_at=rooms.layout.socket,
            stop=stop,
            ready=service.notify_ready,
        )
        services.audit.close()
        if await service.machine_is_stopping():
            _log.info("the machine stops: shutting the guests down")
            await rooms.tasks.wait(await stop_all(rooms, ROOT))


async def _end_when_lost(layout: Layout, stop: asyncio.Event) -> None:
    """End the daemon when its folder was removed under it: nobody can reach it or end it properly any more."""
    if layout.root is None:
        return
    own = layout.state.stat()

    def lost() -> bool:
        try:
            return not os.path.samestat(own, layout.state.stat())  # another daemon may have made it anew
        except FileNotFoundError:
            return True

    await processes.until(lost, _LOST_SECONDS)
    _log.error("%s was removed: the daemon ends", layout.root)
    stop.set()


async def _leave_nothing(house: House) -> None:
    try:
        await forget_lost(house.rooms.layout, house.containers, house.vms, house.network)
    except BastideError as error:
        _log.error("%s", error)


async def _autostart(house: House) -> None:
    if first_since_boot(house.rooms.layout):
        await start_all(house.rooms, ROOT)


@asynccontextmanager
async def _background(*coroutines: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def _pid_file(path: Path) -> AsyncIterator[None]:
    path.write_text(f"{os.getpid()}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
