"""What QEMU is asked, how its answers are read, and which firmware fits a VM."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, NotSupported
from bastide.host import abilities, qemu_facts, qemu_firmware
from bastide.host.facts import Processors
from bastide.host.qemu_firmware import choose

ANSWERS: list[Any] = [
    {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "Debian"},
    [{"name": "pc-q35-7.2", "alias": "q35"}, {"name": "pc-q35-2.12"}, {"name": "pc-q35-2.4", "deprecated": True},
     {"name": "pc-i440fx-7.2"}, {"name": "microvm"}, {"name": "none"}, {"name": "pc-q35-4.0.1"}],
    [{"name": "max"}, {"name": "Haswell", "unavailable-features": ["hle", "rtm"]}],
    {"model": {"name": "max", "props": {"aes": True, "pcid": False, "vendor": "GenuineIntel", "level": 13}}},
    [{"name": "virtio-net-pci"}, {"name": "virtio-gpu-gl-pci"}],
    [{"name": "chardev-spicevmc"}],
    [{"name": "query-spice"}],
]  # fmt: skip


def descriptor(code: str, variables: str, *features: str, **changes: Any) -> str:
    return json.dumps(
        {
            "interface-types": ["uefi"],
            "mapping": {
                "device": "flash",
                "executable": {"filename": f"/usr/share/OVMF/{code}", "format": "raw"},
                "nvram-template": {"filename": f"/usr/share/OVMF/{variables}", "format": "raw"},
            },
            "targets": [{"architecture": "x86_64", "machines": ["pc-q35-*"]}],
            "features": list(features),
            **changes,
        }
    )


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    ovmf = tmp_path / "usr/share/OVMF"
    ovmf.mkdir(parents=True)
    folder = tmp_path / "usr/share/qemu/firmware"
    folder.mkdir(parents=True)
    for name in ("CODE_4M.ms", "CODE_4M.secboot", "CODE_4M"):
        (ovmf / f"OVMF_{name}.fd").write_bytes(bytes(3_653_632))
    for name in ("VARS_4M.ms", "VARS_4M"):
        (ovmf / f"OVMF_{name}.fd").write_bytes(bytes(540_672))
    (ovmf / "OVMF_CODE.fd").write_bytes(bytes(1_966_080))
    (ovmf / "OVMF_VARS.fd").write_bytes(bytes(131_072))
    (folder / "40-enrolled.json").write_text(
        descriptor("OVMF_CODE_4M.ms.fd", "OVMF_VARS_4M.ms.fd", "secure-boot", "enrolled-keys", "requires-smm")
    )
    (folder / "50-secure.json").write_text(
        descriptor("OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.fd", "secure-boot", "requires-smm")
    )
    (folder / "60-plain.json").write_text(descriptor("OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"))
    (folder / "70-gone.json").write_text(descriptor("OVMF_CODE_GONE.fd", "OVMF_VARS_4M.fd"))
    return tmp_path


def test_answers_are_shaped() -> None:
    emulator = qemu_facts.parse_emulator(Path("/usr/bin/qemu"), ANSWERS)
    assert emulator.version == (7, 2, 22)
    assert [machine.id for machine in emulator.machines] == [
        "pc-i440fx-7.2", "pc-q35-7.2", "pc-q35-4.0.1", "pc-q35-2.12", "pc-q35-2.4",
    ]  # fmt: skip
    assert emulator.flags == {"aes", "pcid"}
    assert emulator.offered == {"aes"}
    assert emulator.spice
    assert [(model.name, model.unavailable) for model in emulator.cpu_models] == [
        ("Haswell", ("hle", "rtm")),
        ("max", ()),
    ]
    newest = emulator.machine("q35")
    assert newest is not None
    assert (newest.id, newest.number) == ("pc-q35-7.2", "7.2")
    assert emulator.machine("pc-q35-9.9") is None


def test_a_qemu_without_the_module_has_no_spice() -> None:
    emulator = qemu_facts.parse_emulator(Path("/usr/bin/qemu"), [*ANSWERS[:5], [], ANSWERS[6]])
    assert not emulator.spice


def test_missing_answers_are_a_failure() -> None:
    with pytest.raises(HostFailure, match="did not say"):
        qemu_facts.parse_emulator(Path("/usr/bin/qemu"), [None, *ANSWERS[1:]])


@pytest.mark.anyio
async def test_the_installed_qemu_answers_once(monkeypatch: pytest.MonkeyPatch) -> None:
    if not qemu_facts.BINARY.exists():
        pytest.fail("QEMU is not installed")
    host = await qemu_facts.host_facts()
    emulator = host.emulator
    assert emulator.machine("q35") is not None
    assert {"virtio-net-pci", "vfio-pci"} <= emulator.devices
    assert {"aes", "pcid"} <= emulator.flags
    assert (await qemu_facts.cpu_vendors())["EPYC"] == "AuthenticAMD"

    async def never(*_a: Any, **_k: Any) -> None:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(qemu_facts, "spawn", never)
    assert (await qemu_facts.host_facts()).emulator is emulator
    assert await qemu_facts.cpu_vendors()


@pytest.mark.anyio
async def test_no_qemu_is_said(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="not installed"):
        await qemu_facts.host_facts(tmp_path / "qemu-system-x86_64")


@given(st.text())
def test_any_conversation_is_read(text: str) -> None:
    assert isinstance(qemu_facts.parse_answers(text), dict)


@given(st.sets(st.integers(min_value=0, max_value=500)))
def test_cpu_lists_are_read(cpus: set[int]) -> None:
    assert qemu_facts.parse_cpu_list(",".join(map(str, cpus)) + "\n") == cpus


def test_cpu_ranges_are_read() -> None:
    assert qemu_facts.parse_cpu_list("0-2,8\n") == {0, 1, 2, 8}
    assert qemu_facts.parse_cpu_list("x,-1,3-") == frozenset()


def test_huge_pages_and_nodes_are_read(tmp_path: Path) -> None:
    pages = tmp_path / "kernel/mm/hugepages/hugepages-2048kB"
    pages.mkdir(parents=True)
    (pages / "nr_hugepages").write_text("8\n")
    (pages / "free_hugepages").write_text("3\n")
    node = tmp_path / "devices/system/node/node1"
    node.mkdir(parents=True)
    (node / "meminfo").write_text("Node 1 MemTotal:       1024 kB\n")
    (node / "cpulist").write_text("4-7\n")
    assert qemu_facts.hugepages(tmp_path) == (qemu_facts.HugePages(2 << 20, 8, 3),)
    assert qemu_facts.numa_nodes(tmp_path) == (qemu_facts.NumaNode(1, frozenset({4, 5, 6, 7}), 1 << 20),)


@pytest.mark.parametrize(
    ("efitype", "keys", "smm", "code"),
    [
        ("4m", True, True, "OVMF_CODE_4M.ms.fd"),
        ("4m", False, True, "OVMF_CODE_4M.secboot.fd"),
        ("4m", False, False, "OVMF_CODE_4M.fd"),
        ("2m", False, True, "OVMF_CODE.fd"),
        ("2m", True, False, "OVMF_CODE.fd"),
    ],
)
def test_firmware_is_chosen(installed: Path, efitype: Any, keys: bool, smm: bool, code: str) -> None:
    found = choose(qemu_firmware.installed(installed), efitype=efitype, enrolled_keys=keys, smm=smm)
    assert found is not None
    assert found.code.name == code


def test_firmware_that_is_not_there_is_not_chosen(installed: Path) -> None:
    found = qemu_firmware.installed(installed)
    assert len(found) == 4
    assert choose(found, efitype="4m", enrolled_keys=True, smm=False) is None
    assert choose((), efitype="4m", enrolled_keys=False) is None


def test_etc_hides_what_the_package_brings(installed: Path) -> None:
    folder = installed / "etc/qemu/firmware"
    folder.mkdir(parents=True)
    (folder / "40-enrolled.json").write_text("{}")
    assert not any(known.enrolled_keys for known in qemu_firmware.installed(installed))


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_descriptor_is_read(value: Any) -> None:
    assert qemu_firmware.parse_descriptor(json.dumps(value)) is None


@pytest.mark.parametrize(
    ("device", "flags", "says"),
    [
        (None, {"vmx"}, None),
        (None, {"sse"}, "neither vmx nor svm"),
        ("there is no /dev/kvm", {"svm"}, "though the processor could"),
        ("there is no /dev/kvm", set(), "there is no /dev/kvm, and"),
    ],
)
def test_kvm_needs_device_and_processor(
    monkeypatch: pytest.MonkeyPatch, device: str | None, flags: set[str], says: str | None
) -> None:
    monkeypatch.setattr(abilities, "_device_refusal", lambda _: device)
    monkeypatch.setattr(abilities, "_VIRTUAL_BY_DESIGN", ())
    monkeypatch.setattr(abilities, "_is_for_users", lambda _: True)
    monkeypatch.setattr(abilities, "processors", lambda: Processors("m", 1, 1, 1, "1", frozenset(flags)))
    refusal = abilities.kvm_refusal()
    assert (refusal is None) if says is None else (says in (refusal or ""))


@pytest.mark.parametrize(
    ("mode", "group", "usable", "needed"),
    [
        (0o600, 0, False, 0),
        (0o660, 0, False, 0),
        (0o660, 107, True, 107),
        (0o666, 0, True, None),
        (0o640, 107, False, 107),
    ],
)
def test_kvm_is_usable_where_others_than_root_may_open_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, group: int, usable: bool, needed: int | None
) -> None:
    device = tmp_path / "kvm"
    device.touch()
    os.chown(device, 0, group)
    device.chmod(mode)
    monkeypatch.setattr(abilities, "_KVM", str(device))
    monkeypatch.setattr(abilities, "processors", lambda: Processors("m", 1, 1, 1, "1", frozenset({"vmx"})))
    assert (abilities.kvm_refusal() is None) == usable
    assert abilities.kvm_group() == needed
