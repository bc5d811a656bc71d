import json
import os
import threading
from pathlib import Path

import pytest

from bastide.base.errors import InvalidParameter
from bastide.base.layout import Layout
from bastide.host import abilities, facts, sampling, syscalls
from bastide.host.doctor import doctor

TWO_SOCKETS = "".join(
    f"processor\t: {cpu}\nmodel name\t: Test CPU\ncpu MHz\t\t: 2000.5\n"
    f"physical id\t: {cpu // 4}\ncore id\t\t: {cpu % 4 // 2}\n"
    f"flags\t\t: fpu {'vmx' if cpu == 0 else ''} sse\n\n"
    for cpu in range(8)
)
ARM = "".join(f"processor\t: {cpu}\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd\nCPU part\t: 0xd0c\n\n" for cpu in range(4))


def test_processors_are_counted_by_thread_core_and_socket() -> None:
    cpu = facts.parse_cpuinfo(TWO_SOCKETS)
    assert (cpu.cpus, cpu.cores, cpu.sockets, cpu.mhz, cpu.model) == (8, 4, 2, "2000.5", "Test CPU")
    assert cpu.virtualization


def test_a_machine_that_tells_no_cores_has_one_socket() -> None:
    cpu = facts.parse_cpuinfo(ARM)
    assert (cpu.cpus, cpu.cores, cpu.sockets) == (4, 4, 1)
    assert not cpu.virtualization


def test_status_has_the_shape_clients_read(reference: Path) -> None:
    methods = json.loads((reference / "pve-api-9.1.json").read_text())
    wanted = next(m for m in methods if m["path"] == "/nodes/{node}/status" and m["method"] == "GET")["returns"]
    status = facts.node_status(cpu=0.5, wait=0.0, pveversion="x")
    for name, shape in wanted["properties"].items():
        assert name in status, name
        for inner in shape.get("properties", {}):
            if not shape["properties"][inner].get("optional"):
                assert inner in status[name], f"{name}.{inner}"
    assert all(isinstance(load, str) for load in status["loadavg"])
    assert status["memory"]["used"] + status["memory"]["available"] == status["memory"]["total"]


def test_traffic_counts_cards_and_not_what_software_made(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    line = "{}: {} 0 0 0 0 0 0 0 {} 0 0 0 0 0 0 0\n"
    names = ["lo", "eth0", "vmbr0", "veth100i0"]
    (tmp_path / "net/dev").write_text("h\nh\n" + "".join(line.format(n, 10, 20) for n in names))
    devices = tmp_path / "class"
    for name in names:
        (devices / name).mkdir(parents=True)
    (devices / "vmbr0/bridge").mkdir()
    assert sampling.network_bytes(tmp_path, devices) == (10, 20)  # no card has a device behind it: eth0 is left
    (devices / "eth0/device").mkdir()
    assert sampling.network_bytes(tmp_path, devices) == (10, 20)


def test_a_time_zone_is_set_only_if_it_exists(tmp_path: Path) -> None:
    (tmp_path / "timezone").write_text("UTC\n")
    for wrong in ("Nowhere/City", "../../etc/passwd", "UTC\n", "zone.tab", ""):
        with pytest.raises(InvalidParameter):
            facts.set_timezone(wrong, tmp_path)
    facts.set_timezone("UTC", tmp_path)
    assert os.readlink(tmp_path / "localtime").endswith("/UTC")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_an_unknown_kind_of_interface_is_refused_and_a_known_one_leaves_nothing() -> None:
    seen: list[str] = []

    def ask() -> None:
        syscalls.unshare(syscalls.CLONE_NEWNET)  # in this machine's own, other tests make interfaces meanwhile
        devices = Path("/proc/thread-self/net/dev")
        seen.append(devices.read_text())
        assert abilities.link_refusal("nosuchkind") is not None
        assert abilities.link_refusal("bridge") is None
        seen.append(devices.read_text())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    before, after = seen
    assert after.count(":") == before.count(":")


def test_doctor_says_what_to_do_about_everything_that_is_wrong(tmp_path: Path) -> None:
    root = tmp_path / "not" / "there"
    checks = doctor(Layout(root))
    names = [check.name for check in checks]
    assert len(names) == len(set(names))
    assert {"kvm", "cgroups", "mapped mounts", "lxc", "bridge", "memory"} <= set(names) | {"network"}
    assert [check.name for check in checks if check.ok != "ok" and not check.advice] == []
    assert not root.exists()
