"""A VM's devices of the host's are given back, also when the daemon that took them is dead."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.guest.qemu.engine import QemuEngine
from bastide.guest.vm_protocol import VmPlan
from bastide.host import vfio
from bastide.host.qemu_facts import HostFacts
from bastide.model.vm import VmConfig

pytestmark = pytest.mark.anyio
VMID = 4713
CARD = "0000:01:00.0"
SHARE = "/sys/bus/mdev/devices/00000000-0000-0000-0000-000000000001"


class Kernel:
    """What vfio was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, int | None]] = []

    async def acquire(self, devices: Collection[str], uid: int) -> None:
        self.asked.append(("acquire", list(devices), uid))

    async def release(self, devices: Collection[str], uid: int | None = None) -> None:
        self.asked.append(("release", list(devices), uid))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(vfio, "acquire", kernel.acquire)
    monkeypatch.setattr(vfio, "release", kernel.release)
    return kernel


def plan() -> VmPlan:
    config = VmConfig.parse({"hostpci0": "01:00.0"})
    return VmPlan(VMID, "db", config, [], {}, 100_000, "pc-q35-7.2", "0", pci={0: [CARD]})


async def test_the_next_daemon_releases_what_a_dead_one_took(tmp_path: Path, kernel: Kernel) -> None:
    layout = Layout(tmp_path)
    folder = layout.runtime / "qemu" / str(VMID)
    folder.mkdir(parents=True)
    (folder / "devices.json").write_text(json.dumps({"uid": 100_000, "devices": [CARD, SHARE]}))
    engine = QemuEngine(layout)
    await engine.prepare()
    assert engine.ended() == {VMID}
    assert await engine.cleanup(VMID)
    assert kernel.asked == [("release", [CARD, SHARE], 100_000)]
    assert not folder.exists()
    await engine.close()


async def test_a_start_notes_what_it_takes_before_it_takes_it(
    tmp_path: Path, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = QemuEngine(Layout(tmp_path))

    async def nothing() -> HostFacts:
        return None  # type: ignore[return-value]

    noted: list[str] = []

    async def refuse(devices: Collection[str], uid: int) -> None:
        noted.append((tmp_path / "run/qemu" / str(VMID) / "devices.json").read_text())
        raise HostFailure("it is busy")

    monkeypatch.setattr(engine, "_host", nothing)
    monkeypatch.setattr(vfio, "acquire", refuse)
    with pytest.raises(HostFailure, match="it is busy"):
        await engine.start(plan())
    assert json.loads(noted[0]) == {"uid": 100_000, "devices": [CARD]}
    assert not (tmp_path / "run/qemu" / str(VMID)).exists()
    assert kernel.asked == []
    await engine.close()
