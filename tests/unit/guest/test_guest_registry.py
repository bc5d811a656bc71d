"""Guest records: unique, found by name, changed only by who read the latest."""

import asyncio
import dataclasses

import pytest

from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound
from bastide.guest.registry import Guests
from bastide.model.guest import Guest
from bastide.state.memory import MemoryStore


def _guest(vmid: int, name: str) -> Guest:
    return Guest(vmid, "lxc", "pve", {"hostname": name})


def test_registry() -> None:
    async def scenario() -> None:
        guests = Guests(MemoryStore(), "pve")
        web = await guests.create(_guest(100, "web"))
        await guests.create(_guest(102, "db"))
        with pytest.raises(AlreadyExists, match="CT 100 already exists"):
            await guests.create(_guest(100, "other"))
        assert (await guests.find("web")).vmid == (await guests.find("100")).vmid == 100
        with pytest.raises(NotFound, match="does not exist"):
            await guests.find("nobody")
        assert await guests.next_vmid() == 101
        changed = await guests.update(dataclasses.replace(web, pending={"memory": 64}))
        with pytest.raises(Conflict):
            await guests.update(web)
        assert changed.digest != web.digest
        assert changed.wanted_config == {"hostname": "web", "memory": 64}
        await guests.create(_guest(103, "db"))
        with pytest.raises(InvalidParameter, match="102, 103"):
            await guests.find("db")
        await guests.delete(102)
        assert [guest.vmid for guest in await guests.list()] == [100, 103]
        with pytest.raises(NotFound):
            await guests.next_vmid(100, 100)

    asyncio.run(scenario())
