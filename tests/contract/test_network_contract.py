"""What every network must do, the fake and the real one alike."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter, NotFound
from bastide.base.layout import Layout
from bastide.host import dnsmasq
from bastide.model.container import NetworkInterface
from bastide.network.bridge import NatNetwork
from bastide.network.fake import FakeNetwork
from bastide.network.protocol import Network
from framework.namespaces import sh

pytestmark = pytest.mark.anyio
HWADDR = "02:00:00:00:00:0A"


@dataclass
class Subject:
    """A network, its managed bridge, and how to make a guest's host end."""

    network: Network
    bridge: str
    fake: FakeNetwork | None

    def make_end(self, vmid: int, index: int) -> str:
        name = self.network.host_interface(vmid, index)
        if self.fake:
            self.fake.ends[name] = None
        else:
            sh(f"ip link add {name} type veth peer name bstp{secrets.token_hex(3)}")
        return name

    def nic(self, **options: object) -> NetworkInterface:
        values = {"name": "eth0", "bridge": self.bridge, "hwaddr": HWADDR, **options}
        return NetworkInterface.model_validate(values)


@pytest.fixture(params=["fake", pytest.param("nat", marks=pytest.mark.system)])
def subject(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Subject]:
    layout, bridge = Layout(tmp_path), f"bstt{secrets.token_hex(3)}"
    number = secrets.randbelow(200) + 20
    addresses = IPv4Interface(f"10.20.{number}.1/24"), IPv6Interface(f"fd12:3456:{number:x}::1/64")
    if request.param == "fake":
        fake = FakeNetwork(layout, bridge, *addresses, strict=True)
        yield Subject(fake, bridge, fake)
        return
    made = Subject(NatNetwork(layout, bridge, *addresses), bridge, None)
    yield made
    for vmid in (100, 101):
        sh(f"ip link del {made.network.host_interface(vmid, 0)}", check=False)


@pytest.fixture
async def running(subject: Subject) -> Subject:
    await subject.network.start()
    yield subject
    await subject.network.stop(purge=True)


async def test_starting_again_is_fine(running: Subject) -> None:
    await running.network.start()
    await running.network.stop(purge=False)
    await running.network.start()
    await running.network.check(running.nic(ip="dhcp"))


async def test_purging_twice_is_fine(subject: Subject) -> None:
    await subject.network.stop(purge=True)
    await subject.network.start()
    await subject.network.stop(purge=True)
    await subject.network.stop(purge=True)
    with pytest.raises(InvalidParameter):
        await subject.network.check(subject.nic())


async def test_gateway_is_the_managed_bridge_alone(running: Subject) -> None:
    gateway = running.network.gateway(running.bridge)
    assert gateway is not None
    assert gateway.name == running.bridge
    assert gateway.ipv4.ip in gateway.ipv4.network
    assert running.network.gateway("vmbr99") is None


@pytest.mark.parametrize(
    ("field", "options"),
    [("bridge", {"bridge": "bsttnone"}), ("tag", {"tag": 5})],
)
async def test_refuses_what_the_host_cannot(running: Subject, field: str, options: dict[str, object]) -> None:
    with pytest.raises(InvalidParameter) as caught:
        await running.network.check(running.nic(**options))
    assert list(caught.value.errors) == [field]
    assert str(options.get("bridge", running.bridge)) in caught.value.errors[field]


async def test_refuses_the_gateways_own_address(running: Subject) -> None:
    gateway = running.network.gateway(running.bridge)
    assert gateway is not None
    with pytest.raises(InvalidParameter):
        await running.network.check(running.nic(ip=str(gateway.ipv4)))


async def test_connects_a_host_end_as_often_as_asked(running: Subject) -> None:
    with pytest.raises(NotFound):
        await running.network.connect(100, 0, running.nic())
    running.make_end(100, 0)
    for options in ({}, {"link_down": True}, {"mtu": 1400}, {"rate": 2.5}, {}):
        await running.network.connect(100, 0, running.nic(**options))


async def test_without_a_lease_there_is_no_address(running: Subject) -> None:
    assert await running.network.lease("02:00:00:00:00:0B") is None


async def test_forgets_what_was_never_registered(running: Subject) -> None:
    await running.network.forget(100)
    await running.network.register(100, "web", {0: running.nic(ip="dhcp")})
    await running.network.register(100, "other", {})
    await running.network.forget(100)
    await running.network.forget(100)
    assert await running.network.lease(HWADDR) is None


@pytest.mark.parametrize("name", ["web\n10.0.0.1 evil", "a b", "../../etc/passwd", "x" * 300, ".", ""])
async def test_a_bad_name_harms_nothing(running: Subject, name: str) -> None:
    await running.network.register(100, name, {0: running.nic(ip="10.20.1.9/24")})
    await running.network.start()
    await running.network.forget(100)


@pytest.mark.system
def test_the_account_of_dnsmasq_is_not_root() -> None:
    assert dnsmasq.service_user() in ("dnsmasq", "nobody")
