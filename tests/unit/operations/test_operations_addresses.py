"""Where VMs can be reached: their agent, a DHCP lease, the neighbour table, whichever knows."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bastide.base.errors import DeadlineExceeded
from bastide.guest.fake_vm import FakeVmEngine
from bastide.host import links
from bastide.model.access import ROOT
from bastide.model.guest import Address
from bastide.model.vm import VmOptions
from bastide.network.fake import FakeNetwork
from bastide.operations.addresses import addresses
from bastide.operations.rooms import Rooms
from bastide.operations.vm import create, power
from framework.rooms import fake_rooms

pytestmark = pytest.mark.anyio

MAC = "02:00:00:00:00:01"


@pytest.fixture
async def rooms(tmp_path: Path) -> Rooms:
    """Rooms with a VM 100 on the managed bridge."""
    rooms = await fake_rooms(tmp_path)
    options = VmOptions.parse({"memory": "64", "agent": "1", "net0": f"virtio={MAC},bridge=vmbr0"})
    await rooms.tasks.wait(await create.create_vm(rooms, ROOT, 100, options))
    return rooms


async def found(rooms: Rooms) -> list[str]:
    return await addresses(rooms, await rooms.guests.get(100))


def neighbours(*rows: tuple[str, str]) -> Callable[..., Any]:
    async def with_netlink(action: Callable[[Any], Any]) -> Any:
        return action(links.Netlink(SimpleNamespace(get_neighbours=lambda: [_message(*row) for row in rows])))

    return with_netlink


class _Message(dict[str, int]):
    """A netlink message as pyroute2 shows it."""

    def get_attr(self, name: str) -> object:
        return self.get(name)


def _message(hwaddr: str, address: str, state: int = 4, index: int = 7) -> Any:
    values: dict[str, Any] = {"NDA_LLADDR": hwaddr, "NDA_DST": address, "ifindex": index, "state": state}
    return _Message(values)


async def test_whoever_knows_tells(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, network = rooms.vms, rooms.network
    assert isinstance(engine, FakeVmEngine)
    assert isinstance(network, FakeNetwork)
    network.leases[MAC] = "10.1.1.5"
    assert await found(rooms) == [], "it does not run"
    await rooms.tasks.wait(await power.start(rooms, ROOT, 100))
    network.leases[MAC] = "10.1.1.5"
    monkeypatch.setattr(links, "exists", lambda _name: False)
    assert await found(rooms) == ["10.1.1.5"]
    monkeypatch.setattr(links, "exists", lambda name: name == "vmbr0")
    monkeypatch.setattr(links.socket, "if_nametoindex", lambda _name: 7)
    others = (("02:00:00:00:00:09", "10.1.1.9"), (MAC, "fe80::1"), (MAC, "10.1.1.5"))
    monkeypatch.setattr(links, "with_netlink", neighbours((MAC.lower(), "fd00::5"), *others))
    assert await found(rooms) == ["10.1.1.5", "fd00::5"]
    engine.answers["addresses"] = [Address("eth0", MAC, "192.0.2.7", 24), Address("lo", "", "127.0.0.1", 8)]
    assert await found(rooms) == ["192.0.2.7"]


async def test_a_hostile_agent_costs_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    await rooms.tasks.wait(await power.start(rooms, ROOT, 100))
    assert isinstance(rooms.network, FakeNetwork)
    rooms.network.leases[MAC] = "10.1.1.5"

    async def never(_vmid: int) -> list[Address]:
        raise DeadlineExceeded("no answer")

    monkeypatch.setattr(rooms.vms, "addresses", never)
    monkeypatch.setattr(links, "exists", lambda _name: False)
    assert await found(rooms) == ["10.1.1.5"]


def test_only_who_answered_on_that_interface_is_a_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links.socket, "if_nametoindex", lambda _name: 7)
    messages = [
        _message(MAC, "10.1.1.1", state=0x02),
        _message(MAC, "10.1.1.2", state=0x20),
        _message(MAC, "10.1.1.3", state=0x01),
        _message(MAC, "10.1.1.4", index=8),
        _message(MAC, "ff02::1", state=0x40),
    ]
    netlink = links.Netlink(SimpleNamespace(get_neighbours=lambda: messages))
    assert netlink.neighbours("vmbr0") == [(MAC, "10.1.1.1")]
