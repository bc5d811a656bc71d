"""The guards of one instance's ports: what each guest's interfaces may send, kept in the kernel.

A guest's guards are a file `<vmid>` in a folder below /run, so that a daemon knows after its restart what the kernel
was told before, and can tell it again when somebody has flushed it.
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from bastide.base.errors import RunError
from bastide.host import links, nftables
from bastide.network import guards
from bastide.network.guards import Guard

_log = logging.getLogger(__name__)


class Guarding:
    """What the ports' guards are and that the kernel has them."""

    def __init__(self, instance: str, ipv6: IPv6Network) -> None:
        self._instance = instance
        self._ipv6 = ipv6
        self._folder = Path("/run") / f"{instance}-network" / "guards"
        self._guards: dict[int, dict[str, Guard]] | None = None
        self._routers: frozenset[IPv6Address] = frozenset()
        self._told: guards.Elements | None = None
        self._lock = asyncio.Lock()

    async def ensure(self, routers: Iterable[IPv6Address], *, afresh: bool) -> None:
        """See that the kernel has the rules; `afresh` when it lost them, `routers` are the bridge's own addresses.

        Raises RunError with nft's message.
        """
        async with self._lock:
            if afresh:
                self._told = None
            self._routers = frozenset(routers)
            await self._tell()

    async def put(self, vmid: int, wanted: Mapping[str, Guard | None], *, whole: bool = False) -> None:
        """Set the guards of a guest's interfaces, None for one that has none; with `whole` these are all it has.

        An interface that is no more the guest's keeps its guard while it exists. Raises RunError with nft's message.
        """
        async with self._lock:
            known = self._known()
            before = known.get(vmid, {})
            kept = {name: guard for name, guard in before.items() if not whole or links.exists(name)}
            after = kept | {name: guard for name, guard in wanted.items() if guard is not None}
            for name in [name for name, guard in wanted.items() if guard is None]:
                after.pop(name, None)
            if after != before:
                await self._replace(vmid, after)

    async def forget(self, vmid: int) -> None:
        """Remove the guards of a guest that is gone."""
        async with self._lock:
            if self._known().get(vmid):
                await self._replace(vmid, {})

    def is_strict(self, vmid: int, interface: str) -> bool:
        """Whether an interface is held to the addresses that it was given."""
        guard = self._known().get(vmid, {}).get(interface)
        return guard is not None and guard.strict

    async def purge(self) -> None:
        """Remove the rules; the files go with their folder."""
        async with self._lock:
            await nftables.delete_table("bridge", self._instance)
            self._guards, self._told = None, None

    async def _replace(self, vmid: int, after: dict[str, Guard]) -> None:
        """Tell the kernel, then write it down: a guard that is written down was once in force."""
        known = self._known()
        before = known.get(vmid, {})
        known[vmid] = after
        try:
            await self._tell()
        except BaseException:
            known[vmid] = before
            raise
        if not after:
            del known[vmid]
        await asyncio.to_thread(self._write, vmid, after)

    async def _tell(self) -> None:
        every = [guard for own in self._known().values() for guard in own.values()]
        wanted = guards.elements(every, self._routers)
        if self._told == wanted:
            return
        if self._told is not None and (change := guards.render_change(self._instance, self._told, wanted)):
            with contextlib.suppress(RunError):  # somebody else has changed the table
                await nftables.apply(change)
                self._told = wanted
                return
        ruleset = guards.render_guards(self._instance, self._ipv6, wanted)
        try:
            await nftables.apply(ruleset)
        except RunError:
            await nftables.apply(guards.render_afresh(self._instance, ruleset))
        self._told = wanted

    def _known(self) -> dict[int, dict[str, Guard]]:
        if self._guards is None:
            self._guards = {}
            with contextlib.suppress(FileNotFoundError):
                for file in self._folder.iterdir():
                    if file.name.isdigit() and (found := _read(file)):
                        self._guards[int(file.name)] = found
        return self._guards

    def _write(self, vmid: int, found: Mapping[str, Guard]) -> None:
        file = self._folder / str(vmid)
        if not found:
            file.unlink(missing_ok=True)
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{vmid}.new")
        new.write_text(json.dumps([asdict(guard) for guard in found.values()]))
        new.rename(file)


def _read(file: Path) -> dict[str, Guard]:
    try:
        rows = json.loads(file.read_text())
        found = [Guard(**{**row, "ipv4": tuple(row["ipv4"]), "ipv6": tuple(row["ipv6"])}) for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        _log.warning("the guards of guest %s are unknown until its next start: %s", file.name, error)
        return {}
    return {guard.interface: guard for guard in found}
