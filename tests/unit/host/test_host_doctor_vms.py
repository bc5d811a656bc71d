"""What doctor says of virtual machines, and what to do."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bastide.base.errors import NotSupported
from bastide.host import abilities, doctor_vms, qemu_facts
from bastide.host.checks import Check
from bastide.host.qemu_facts import Emulator, HostFacts
from bastide.host.qemu_firmware import Firmware

HERE = Path("/usr/share/OVMF")
GOOD = HostFacts(
    Emulator(
        Path("/usr/bin/qemu"), (7, 2, 1), (), (), frozenset(), frozenset(),
        types=frozenset({"chardev-spicevmc"}), commands=frozenset({"query-spice"}),
    ),
    kvm_refusal=None,
    firmware=(
        Firmware(HERE / "code", HERE / "vars", "4m", secure_boot=True, smm=True),
        Firmware(HERE / "code.ms", HERE / "vars.ms", "4m", secure_boot=True, enrolled_keys=True, smm=True),
    ),
)  # fmt: skip


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A machine on which everything is there; the test takes something away."""
    monkeypatch.setattr(abilities, "kvm_refusal", lambda: None)
    monkeypatch.setattr(abilities, "iommu_groups", lambda: 12)
    monkeypatch.setattr(abilities, "module_is_there", lambda _name: True)
    monkeypatch.setattr(doctor_vms.shutil, "which", lambda name, **_: f"/usr/bin/{name}")
    state: dict[str, Any] = {"facts": GOOD}

    async def facts() -> HostFacts:
        if isinstance(state["facts"], Exception):
            raise state["facts"]
        found: HostFacts = state["facts"]
        return found

    monkeypatch.setattr(qemu_facts, "host_facts", facts)
    return state


def looked() -> dict[str, Check]:
    return {check.name: check for check in doctor_vms.look()}


def test_a_good_machine_has_nothing_to_mend(machine: Any) -> None:
    found = looked()
    assert {check.ok for check in found.values()} == {"ok"}
    assert set(found) == {"kvm", "qemu", "ovmf", "swtpm", "vhost_net", "iommu"}
    assert found["qemu"].message == "version 7.2.1, guests run by KVM, SPICE"


def test_emulation_is_a_warning_with_its_reason(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    why = "/dev/kvm is there, but the processor shows neither vmx nor svm"
    monkeypatch.setattr(abilities, "kvm_refusal", lambda: why)
    machine["facts"] = replace(GOOD, kvm_refusal=why)
    found = looked()
    assert (found["kvm"].ok, why in found["kvm"].message, "VT-x" in found["kvm"].advice) == ("warn", True, True)
    assert "guests run by TCG" in found["qemu"].message
    monkeypatch.setattr(abilities, "kvm_refusal", lambda: "there is no /dev/kvm, though the processor could")
    assert "modprobe" in looked()["kvm"].advice


def test_what_is_absent_is_named_with_its_package(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine["facts"] = NotSupported("qemu-system-x86_64 is not installed on this host")
    monkeypatch.setattr(doctor_vms.shutil, "which", lambda name, **_: None if name == "swtpm" else name)
    monkeypatch.setattr(abilities, "iommu_groups", lambda: 0)
    found = looked()
    assert "apt-get install qemu-system-x86" in found["qemu"].advice
    assert found["swtpm"].advice == "apt-get install swtpm"
    assert "iommu=on" in found["iommu"].advice
    assert {found[name].ok for name in ("qemu", "swtpm", "iommu")} == {"warn"}


def test_old_qemu_and_missing_firmware_are_told(machine: Any) -> None:
    machine["facts"] = replace(GOOD, firmware=(), emulator=replace(GOOD.emulator, version=(6, 2, 0), types=frozenset()))
    found = looked()
    assert "older than what is tested" in found["qemu"].message
    assert "no SPICE" in found["qemu"].message
    assert found["ovmf"].advice == "apt-get install ovmf"
    machine["facts"] = replace(GOOD, firmware=GOOD.firmware[:1])
    assert "without enrolled keys" in looked()["ovmf"].message
