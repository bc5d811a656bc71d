"""A review of fake guests: what is gathered of them, who may see it, and that nothing is changed by it."""

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import DeadlineExceeded, HostFailure
from bastide.base.units import GIB, MIB
from bastide.host import guest_looks
from bastide.host.guest_looks import Listener, Looks
from bastide.model.access import ROOT
from bastide.model.guest import Address, Guest
from bastide.model.vm import VmOptions
from bastide.operations.architect import looking
from bastide.operations.architect.looking import foreign_modules, is_public, public_listeners
from bastide.operations.architect.review import observe, review_guests
from bastide.operations.rooms import Rooms
from bastide.operations.vm import create, power
from framework.api import Api, call
from framework.rooms import TEMPLATE

pytestmark = pytest.mark.anyio


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    made = await Api.make(tmp_path)
    yield made
    await made.services.rooms.tasks.shutdown()


async def container(api: Api, vmid: int, **options: Any) -> Guest:
    """A running container."""
    given = {"ostemplate": TEMPLATE, "unprivileged": 1, "memory": 1024, "cores": 4, "rootfs": "local:8", **options}
    assert await api.wait(await api.data("POST", "/nodes/pve/lxc", vmid=vmid, start=1, **given)) == "OK"
    return await api.services.rooms.guests.get(vmid)


async def machine(rooms: Rooms, vmid: int, **options: str) -> Guest:
    """A running VM."""
    values = {"name": f"vm{vmid}", "memory": "2048", "agent": "1", "ostype": "l26", **options}
    await rooms.tasks.wait(await create.create_vm(rooms, ROOT, vmid, VmOptions.parse(values)))
    await rooms.tasks.wait(await power.start(rooms, ROOT, vmid))
    return await rooms.guests.get(vmid)


def record(rooms: Rooms, vmid: int, minutes: int, **values: float) -> None:
    """Samples of the last minutes."""
    now = int(time.time()) // 60 * 60
    for minute in range(minutes, 0, -1):
        rooms.sampler._series.record(now - 60 * (minute - 1), [("guest", str(vmid), values)])


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> dict[int, Looks]:
    """What the kernel says of containers; nothing by default."""
    seen: dict[int, Looks] = {}

    def look(inits: Mapping[int, int], _names: Any) -> dict[int, Looks]:
        return {vmid: seen.get(vmid, Looks()) for vmid in inits}

    monkeypatch.setattr(guest_looks, "look", look)
    return seen


async def test_samples_become_findings(api: Api, inside: dict[int, Looks]) -> None:
    rooms = api.services.rooms
    guest = await container(api, 100, hostname="web")
    record(rooms, 100, 40, cpu=0.05, maxcpu=4, mem=100 * MIB, disk=GIB, pressurecpusome=3.5)
    (seen,) = await observe(rooms, [guest], "hour")
    assert (seen.samples, seen.buckets, seen.ref, seen.kind, seen.cpus) == (40, 60, "web", "ct", 4)
    assert seen.cpu.usual == pytest.approx(0.2)
    assert seen.memory.means == seen.memory.peaks == (100 * MIB,) * 40
    assert seen.cpu_pressure.usual == 3.5
    review = await review_guests(rooms, [guest], "hour")
    assert {finding.id for finding in review.guests[0].findings} == {"memory-too-big", "cores-too-many"}
    assert review.saving.memory == (1024 - 192) * MIB
    assert review.saving.cores == 3


async def test_longer_windows_know_the_highest_minute(api: Api, inside: dict[int, Looks]) -> None:
    rooms = api.services.rooms
    guest = await container(api, 100)
    half_hour = int(time.time()) // 1800 * 1800
    for minute in range(31):
        mem = 900 if minute == 7 else 100
        rooms.sampler._series.record(half_hour - 1800 + 60 * minute, [("guest", "100", {"mem": mem})])
    (seen,) = await observe(rooms, [guest], "week")
    assert (seen.memory.usual, seen.memory.peak) == (pytest.approx(100 + 800 / 30), 900)
    assert seen.samples < 3


async def test_what_waits_for_the_next_start_counts_as_mended(api: Api, inside: dict[int, Looks]) -> None:
    rooms = api.services.rooms
    guest = await machine(rooms, 101)
    await api.data("PUT", "/nodes/pve/qemu/101/config", memory="512")
    guest = await rooms.guests.get(101)
    assert guest.pending
    assert (await observe(rooms, [guest], "hour"))[0].memory_limit == 512 * MIB


async def test_names_that_are_not_distinct_are_not_used(api: Api, inside: dict[int, Looks]) -> None:
    first = await container(api, 100, hostname="web")
    await container(api, 101, hostname="web")
    numbered = await machine(api.services.rooms, 102, name="103")
    seen = await observe(api.services.rooms, [first, numbered], "hour")
    assert [one.ref for one in seen] == ["100", "102"]


async def test_a_container_is_told_by_the_kernel(
    api: Api, inside: dict[int, Looks], monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = await container(api, 100, net0="name=eth0,bridge=vmbr0,ip=203.0.113.5/24")
    inside[100] = Looks(
        frozenset({"dockerd", "containerd", "rpc.mountd"}), (Listener(ip_address("0.0.0.0"), 443),), ("/srv/share",)
    )
    (seen,) = await observe(api.services.rooms, [guest], "hour")
    assert seen.inside is not None
    assert seen.inside.engines == ("containerd", "docker")
    assert seen.inside.public == ("203.0.113.5:443",)
    assert seen.inside.nfs_server
    review = await review_guests(api.services.rooms, [guest], "hour")
    assert [finding.id for finding in review.guests[0].findings] == ["ct-engine-exposed", "ct-nfs"]
    assert review.guests[0].unknown[0].startswith("not enough samples")


async def test_templates_are_left_out_and_stopped_guests_kept(api: Api, inside: dict[int, Looks]) -> None:
    guest = await container(api, 100)
    assert await api.wait(await api.data("POST", "/nodes/pve/lxc/100/status/stop")) == "OK"
    record(api.services.rooms, 100, 1, mem=1)
    (seen,) = await observe(api.services.rooms, [guest], "hour")
    assert not seen.running
    assert seen.unused_for is not None
    assert seen.unused_for < 120
    assert await observe(api.services.rooms, [guest.with_config({**guest.config, "template": 1})], "hour") == []


# what a VM's agent tells


def files(texts: Mapping[str, str]) -> dict[str, Any]:
    """Answers of an agent whose guest has these files."""
    opened: dict[int, str] = {}

    def open_(arguments: Mapping[str, Any]) -> int:
        if arguments["path"] not in texts:
            raise HostFailure("no such file")
        opened[len(opened)] = texts[arguments["path"]]
        return len(opened) - 1

    def read(arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {"buf-b64": base64.b64encode(opened[arguments["handle"]].encode()).decode(), "eof": True}

    return {"guest-file-open": open_, "guest-file-read": read, "guest-file-close": {}}


LINUX = {
    "/proc/self/mountinfo": "1 1 0:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:2 / /srv rw - nfs4 nas:/ rw\n",
    "/proc/modules": "zfs 100 6 - Live 0x0 (POE)\next4 200 1 - Live 0x0\nkvm_intel 300 2 - Live 0x0\n",
    "/proc/meminfo": "MemTotal:  2000 kB\nMemFree: 3 kB\nMemAvailable:  500 kB\n",
    "/proc/vmstat": "pgfault 12\noom_kill 3\n",
    "/proc/self/net/tcp": "header\n 0: 00000000:0016 00000000:0000 0A\n",
}
FSINFO = [
    {"mountpoint": "/boot", "used-bytes": 1, "total-bytes": 2},
    {"mountpoint": "/", "used-bytes": 30, "total-bytes": 40},
]


async def test_a_vm_is_told_by_its_agent(api: Api) -> None:
    rooms = api.services.rooms
    guest = await machine(rooms, 101)
    addresses = [Address("eth0", "", "203.0.113.9", 24), Address("docker0", "", "172.17.0.1", 16)]
    rooms.vms.answers |= {  # type: ignore[attr-defined]
        **files(LINUX), "guest-get-osinfo": {"id": "debian"}, "guest-get-fsinfo": FSINFO, "addresses": addresses,
    }  # fmt: skip
    found, why = await looking.vm(rooms, guest)
    assert why == ""
    assert found is not None
    assert found.linux
    assert found.engines == ("docker", "a hypervisor")
    assert (found.modules, found.nfs_mounts, found.public) == (("zfs",), ("/srv",), ("203.0.113.9:22",))
    assert (found.memory_total, found.memory_available, found.oom_kills) == (2000 * 1024, 500 * 1024, 3)
    assert (found.disk_used, found.disk_size) == (30, 40)


async def test_a_vm_that_is_no_linux(api: Api) -> None:
    rooms = api.services.rooms
    guest = await machine(rooms, 101)
    rooms.vms.answers |= {"guest-get-osinfo": {"id": "mswindows"}, "guest-get-fsinfo": []}  # type: ignore[attr-defined]
    found, _ = await looking.vm(rooms, guest)
    assert found is not None
    assert found.linux is False


@pytest.mark.parametrize(
    ("options", "answers", "why"),
    [
        ({"agent": "0"}, {}, "no agent"),
        ({}, {}, "QEMU guest agent is not running"),
        ({}, {"guest-get-osinfo": DeadlineExceeded("x")}, "did not tell within 5 seconds"),
        ({}, {"guest-get-osinfo": HostFailure("\x1b[2Jnonsense")}, "?[2Jnonsense"),
    ],
)
async def test_why_a_vm_could_not_be_looked_into(
    api: Api, options: dict[str, str], answers: dict[str, Any], why: str
) -> None:
    rooms = api.services.rooms
    guest = await machine(rooms, 101, **options)
    rooms.vms.answers |= answers  # type: ignore[attr-defined]
    review = await review_guests(rooms, [guest], "hour")
    assert any(why in text for text in review.guests[0].unknown), review.guests[0].unknown


@pytest.mark.parametrize("nonsense", [None, 7, [], "x", {}, [None, 5, {"mountpoint": "/", "used-bytes": "much"}]])
async def test_nonsense_from_an_agent_is_survived(api: Api, nonsense: Any) -> None:
    rooms = api.services.rooms
    guest = await machine(rooms, 101)
    made_up = dict.fromkeys(LINUX, "\x00\x1b\udcff 1 - ( ) x\n" * 5)
    rooms.vms.answers |= {  # type: ignore[attr-defined]
        **files({path: text.encode(errors="replace").decode() for path, text in made_up.items()}),
        "guest-get-osinfo": nonsense, "guest-get-fsinfo": nonsense,
    }  # fmt: skip
    review = await review_guests(rooms, [guest], "hour")
    assert json.dumps(review.model_dump(mode="json"))


# pure parts


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("203.0.113.5", True), ("8.8.8.8", True), ("2001:db8::1", True), ("10.1.2.3", False), ("172.31.0.1", False),
        ("172.32.0.1", True), ("192.168.0.1", False), ("100.64.0.1", False), ("100.128.0.1", True),
        ("169.254.1.1", False), ("fe80::1", False), ("fd00::1", False), ("127.0.0.1", False), ("::1", False),
        ("0.0.0.0", False),
    ],
)  # fmt: skip
def test_public_addresses(text: str, public: bool) -> None:
    assert is_public(ip_address(text)) is public


def listeners(*places: str) -> list[Listener]:
    return [Listener(ip_address(place.rpartition(":")[0]), int(place.rpartition(":")[2])) for place in places]


@pytest.mark.parametrize(
    ("bound", "own", "expected"),
    [
        (["0.0.0.0:22"], ["203.0.113.5", "10.0.0.1", "2001:db8::5"], ("203.0.113.5:22",)),
        ([":::22"], ["203.0.113.5", "2001:db8::5"], ("203.0.113.5:22", "[2001:db8::5]:22")),
        (["203.0.113.5:22"], ["203.0.113.6"], ()),
        (["10.0.0.1:22"], ["203.0.113.5", "10.0.0.1"], ()),
        (["0.0.0.0:443", "0.0.0.0:80"], ["203.0.113.5", "nonsense"], ("203.0.113.5:80", "203.0.113.5:443")),
    ],
)
def test_public_listeners(bound: list[str], own: list[str], expected: tuple[str, ...]) -> None:
    assert public_listeners(listeners(*bound), own) == expected


@given(st.text(max_size=200))
def test_any_text_of_modules_is_read(text: str) -> None:
    assert all(name.isprintable() for name in foreign_modules(text))


# who may see it


async def test_only_guests_that_the_caller_may_audit(api: Api, inside: dict[int, Looks]) -> None:
    await container(api, 100, hostname="web")
    await container(api, 101, hostname="db")
    ada = await api.token(grants={"/vms/101": "PVEAuditor"})
    answer = await call(ada, "GET", "/architect/review")
    assert [row["vmid"] for row in answer.json()["data"]["guests"]] == [101]
    hidden, absent = [await call(ada, "GET", "/architect/review", guest=name) for name in ("web", "nobody")]
    assert hidden.status_code == absent.status_code
    assert hidden.json()["message"] == absent.json()["message"].replace("nobody", "web")
    assert (await call(ada, "GET", "/architect/review", guest="db", window="day")).json()["data"]["window"] == "day"
    assert (await call(ada, "GET", "/architect/review", window="century")).status_code == 400


async def test_a_review_changes_nothing(api: Api, inside: dict[int, Looks]) -> None:
    rooms = api.services.rooms
    await container(api, 100)
    record(rooms, 100, 40, cpu=0.05, maxcpu=4, mem=MIB)
    before = [(entry.key, entry.value, entry.revision) for entry in await rooms.store.list("")]
    found = await api.data("GET", "/architect/review", window="hour")
    assert found["guests"][0]["findings"]
    assert [(entry.key, entry.value, entry.revision) for entry in await rooms.store.list("")] == before
