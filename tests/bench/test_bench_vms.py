"""What a VM costs against the same QEMU by hand: start, agent, memory, lists."""

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from bench.conftest import Report, median, milliseconds
from bench.plain_vm import PlainVm, arguments_of, memory
from framework.host import REPOSITORY, Host
from framework.vms import boot_sector

pytestmark = [pytest.mark.bench, pytest.mark.timeout(3600)]

ROUNDS = 10
BOOTS = 3
FLEET = 10
STOPPED = 50

# cli; hlt: without it firmware that finds no system starts over for ever, which keeps a processor busy.
_IDLE = bytes.fromhex("faf4ebfd")


Make = Callable[[list[str], Mapping[str, Path]], PlainVm]


@pytest.fixture
def plain(host: Host) -> Iterator[Make]:
    """Makes VMs by hand, whose processes and folders are gone at the end."""
    made: list[PlainVm] = []

    def make(arguments: list[str], disks: Mapping[str, Path]) -> PlainVm:
        made.append(PlainVm(arguments, disks, host.bridge))
        return made[-1]

    yield make
    for vm in made:
        vm.stop()


def _disk(host: Host, vmid: int, key: str) -> Path:
    """The image of one of a VM's disks."""
    volume = str(host.get(host.path(vmid, "/config"))[key]).partition(",")[0]
    return host.root / "state/storage/images" / volume.partition(":")[2]


def _pid(host: Host, vmid: int) -> int:
    return int(host.get(host.path(vmid, "/status/current"))["pid"])


def _remove(host: Host, vmid: int) -> None:
    if host.get(host.path(vmid, "/status/current"))["status"] == "running":
        host.act(vmid, "stop")
    host.wait(host.delete(host.path(vmid)))


def _idle_disk(folder: Path) -> str:
    image = folder / "idle.raw"
    image.write_bytes(boot_sector(_IDLE).ljust(1 << 20, b"\0"))
    return f"local:0,import-from={image}"


def _rss(pid: int) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def test_define_and_start(host: Host, report: Report, plain: Make, tmp_path: Path) -> None:
    options = {"memory": 64, "scsi0": "local:1", "net0": f"virtio,bridge={host.bridge}", "serial0": "socket"}
    first = host.create_vm(start=True, **options)
    arguments = arguments_of(_pid(host, first))
    _remove(host, first)
    image = tmp_path / "disk.raw"

    def ours() -> None:
        made.append(host.create_vm(start=True, **options))

    def by_hand() -> None:
        with image.open("wb") as file:
            file.truncate(1 << 30)
        made.append(plain(arguments, {"scsi0": image}))
        made[-1].start()

    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):
        made: list[Any] = []
        taken[1].extend(milliseconds(by_hand, 1))
        made.pop().stop()
        taken[0].extend(milliseconds(ours, 1))
        _remove(host, made.pop())
    a, b = median(taken[0]), median(taken[1])
    report.add("define and start a VM until QEMU runs it", f"{a:.0f} ms", f"{b:.0f} ms", f"{a - b:+.0f} ms",
               "at most +250 ms", met=a - b <= 250)  # fmt: skip


def test_start_until_the_agent_answers(host: Host, report: Report, plain: Make) -> None:
    """The same Debian boots from the same disk, by turns; the first boot, with cloud-init's work, is not measured."""
    vmid = host.create_debian_vm(name="bench")
    host.wait_agent(vmid, 1200)
    arguments = arguments_of(_pid(host, vmid))
    disks = {key: _disk(host, vmid, key) for key in ("scsi0", "ide2")}
    host.act(vmid, "shutdown", timeout=180)

    def ours() -> None:
        host.act(vmid, "start")
        host.wait_agent(vmid)

    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(BOOTS):
        taken[0].extend(milliseconds(ours, 1))
        host.act(vmid, "shutdown", timeout=180)
        vm = plain(arguments, disks)
        taken[1].extend(milliseconds(lambda vm=vm: (vm.start(), vm.wait_agent()), 1))
        vm.stop()
    _remove(host, vmid)
    a, b = median(taken[0]), median(taken[1])
    report.add("start of Debian until its agent answers", f"{a / 1000:.1f} s", f"{b / 1000:.1f} s",
               f"{a / b:.2f} times", "at most 1.1 times", met=a / b <= 1.1)  # fmt: skip


def test_memory(host: Host, report: Report, plain: Make, tmp_path: Path) -> None:
    assert host.process is not None
    options = {"memory": 64, "sata0": _idle_disk(tmp_path), "net0": f"virtio,bridge={host.bridge}"}
    vmid = host.create_vm(start=True, **options)
    arguments, image = arguments_of(_pid(host, vmid)), _disk(host, vmid, "sata0")
    figures = {"ours": _settled(lambda: memory(_pid(host, vmid)))}
    processes = _processes_of(host, vmid)
    host.act(vmid, "stop")
    vm = plain(arguments, {"sata0": image})
    vm.start()
    figures["by hand"] = _settled(lambda: memory(vm.pid))
    vm.stop()
    _remove(host, vmid)
    a, b = figures["ours"]["Private"], figures["by hand"]["Private"]
    report.add("memory of a VM of 64 MiB: private pages of QEMU", f"{a:.1f} MiB", f"{b:.1f} MiB", f"{a - b:+.1f} MiB",
               "at most +1 MiB", met=a - b <= 1)  # fmt: skip
    report.add("processes of a running VM", f"{processes}", "1 (QEMU)", f"{processes}", "1", met=processes == 1)

    before = _rss(host.process.pid)
    fleet = [host.create_vm(start=True, **options) for _ in range(FLEET)]
    for _ in range(5):
        host.get(f"/nodes/{host.node}/qemu")
    time.sleep(15)  # the sampler looks at them
    growth = (_rss(host.process.pid) - before) / FLEET
    report.add(f"growth of the daemon a VM, over {FLEET}", f"{growth:.2f} MiB", "", f"{growth:.2f} MiB",
               "under 1 MiB", met=growth < 1)  # fmt: skip
    for one in fleet:
        _remove(host, one)


def _settled(look: Callable[[], dict[str, float]]) -> dict[str, float]:
    time.sleep(8)
    return look()


def _processes_of(host: Host, vmid: int) -> int:
    """How many processes are in the VM's control group."""
    group = Path(f"/proc/{_pid(host, vmid)}/cgroup").read_text()
    found = 0
    for entry in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            found += entry.read_text() == group
        except OSError:
            continue
    return found


def test_lists(host: Host, report: Report, tmp_path: Path) -> None:
    disk = _idle_disk(tmp_path)
    running = [host.create_vm(start=True, memory=32, sata0=disk) for _ in range(FLEET)]
    stopped = [host.create_vm(memory=32) for _ in range(STOPPED)]
    time.sleep(8)
    for what, path in (("/nodes/NODE/qemu", f"/nodes/{host.node}/qemu"), ("/cluster/resources", "/cluster/resources")):
        rows = [row for row in host.get(path) if row.get("vmid") in {*running, *stopped}]
        assert sum(row["status"] == "running" for row in rows) == FLEET
        assert len(rows) == FLEET + STOPPED
        taken = median(milliseconds(lambda path=path: host.get(path), 20))
        report.add(f"list of {STOPPED} stopped and {FLEET} running VMs, {what}", f"{taken:.1f} ms", "",
                   f"{taken:.1f} ms", "under 100 ms", met=taken < 100)  # fmt: skip
    command = [str(REPOSITORY / "bastide"), "ls"]
    cli = median(
        milliseconds(
            lambda: subprocess.run(
                command, env=host.environment(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ),
            10,
        )
    )
    report.add("the same by `./bastide ls`, as a whole", f"{cli:.0f} ms", "", f"{cli:.0f} ms", "under 100 ms",
               met=cli < 100)  # fmt: skip
    for vmid in [*running, *stopped]:
        _remove(host, vmid)
