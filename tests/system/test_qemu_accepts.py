"""The installed QEMU takes every argument list of the golden files, and what is plugged into a running VM.

Each list is rendered for emulation (this needs no KVM) with real descriptors: images in a temporary folder, sockets,
taps in a network namespace of a thread's own. QEMU starts paused, gets the commands that complete a start, and quits.
"""

import contextlib
import ctypes
import fcntl
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import threading
import tty
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from bastide.base.errors import NotSupported
from bastide.base.units import MIB
from bastide.guest.qemu.launch import Need
from bastide.guest.qemu.render import disks as render_disks
from bastide.guest.qemu.render import network as render_network
from bastide.guest.qemu.render import usb as render_usb
from bastide.guest.qemu.render.argv import needs, render_argv, startup_commands
from bastide.guest.qemu.render.cpu import cpu_argument, cpu_device
from bastide.guest.qemu.render.machine import memory_module
from bastide.guest.vm_protocol import PlannedDisk, VmPlan
from bastide.host import disk_image
from bastide.host.qemu_facts import HostFacts, host_facts
from bastide.model.storage import DiskImage
from bastide.model.vm import VmConfig
from framework.qemu_plans import names, planned, read

pytestmark = pytest.mark.system

NEEDS_HARDWARE = {
    "cpu-level-4": "KVM on processors with AVX-512",
    "disks-device": "block devices and a SCSI disk",
    "hostpci": "an IOMMU",
    "hostpci-igd": "an IOMMU",
    "hostpci-mdev": "an IOMMU",
    "hostpci-screen": "an IOMMU",
    "hugepages": "huge pages",
    "hugepages-numa": "huge pages",
    "parallel": "a parallel port",
}
_DEADLINE = 30
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _IFF_TAP, _IFF_NO_PI, _IFF_MULTI_QUEUE, _IFF_VNET_HDR = 0x400454CA, 0x2, 0x1000, 0x100, 0x4000


class Qemu:
    """A QEMU that was started with a plan's arguments, and a conversation with its monitor."""

    def __init__(self, plan: VmPlan, host: HostFacts, folder: Path, stack: contextlib.ExitStack) -> None:
        self.plan, self.host, self.folder, self.stack = plan, host, folder, stack
        self.fds: dict[str, list[int]] = {}
        for need in needs(plan, host):
            self.fds[need.name] = self._opened(need)
        argv = render_argv(plan, host, self.fds)
        inherited = [fd for fds in self.fds.values() for fd in fds]
        self.process = stack.enter_context(
            subprocess.Popen(argv, pass_fds=inherited, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd="/")
        )
        stack.callback(self.process.kill)
        self.monitor = socket.socket(socket.AF_UNIX)
        stack.enter_context(self.monitor)
        self.monitor.settimeout(_DEADLINE)
        self.monitor.connect(str(folder / "qmp.sock"))
        # When QEMU ends, so shall the wait: this listener is its own.
        os.close(self.fds["qmp"][0])
        self.lines = self.monitor.makefile("r")
        if not self.lines.readline():
            raise AssertionError(self.said())
        self.ask("qmp_capabilities")

    def ask(self, command: str, arguments: Mapping[str, Any] | None = None, fd: int | None = None) -> Any:
        message = json.dumps({"execute": command, "arguments": arguments or {}}).encode()
        socket.send_fds(self.monitor, [message], [fd] if fd is not None else [])
        for line in self.lines:
            answer = json.loads(line)
            if "error" in answer:
                raise AssertionError(f"{command} {arguments}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise AssertionError(self.said())

    def said(self) -> str:
        self.process.kill()
        assert self.process.stdout is not None
        return self.process.stdout.read().decode()[-2000:]

    def quit(self) -> str:
        """End it, and what it printed."""
        self.ask("quit")
        assert self.process.stdout is not None
        printed = self.process.stdout.read().decode()
        assert self.process.wait(_DEADLINE) == 0, printed
        return printed

    def image(self, need: Need) -> int:
        assert need.path is not None
        flags = os.O_RDONLY if need.read_only else os.O_RDWR
        return self._kept(os.open(need.path, flags | os.O_CLOEXEC))

    def tap(self, name: str, count: int) -> list[int]:
        several = _IFF_MULTI_QUEUE if count > 1 else 0
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | several)
        found = []
        for _ in range(count):
            fd = self._kept(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
            fcntl.ioctl(fd, _TUNSETIFF, request)
            found.append(fd)
        return found

    def _opened(self, need: Need) -> list[int]:
        if need.kind == "image":
            return [self.image(need)]
        if need.kind == "copy":
            assert need.path is not None
            copy = self.folder / need.name
            shutil.copy(need.path, copy)
            return [self._kept(os.open(copy, os.O_RDWR))]
        if need.kind == "tap":
            return self.tap(str(need.interface), need.count)
        if need.kind == "listener":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self.folder / f"{need.name}.sock"))
            listener.listen(1)
            return [listener.detach() if need.name == "qmp" else self._kept(listener.detach())]
        if need.kind == "device":
            if need.name == "rng0":
                return [self._kept(os.open("/dev/urandom", os.O_RDONLY))]
            ours, theirs = os.openpty()
            tty.setraw(theirs)
            return [self._kept(fd) for fd in (theirs, ours)][:1]
        assert need.kind == "peer"
        return [self._tpm()]

    def _tpm(self) -> int:
        swtpm = shutil.which("swtpm")
        assert swtpm is not None, "swtpm is not installed"
        ours, theirs = socket.socketpair()
        state = self.folder / "tpm"
        state.mkdir()
        version = self.plan.config.tpmstate0.version if self.plan.config.tpmstate0 is not None else None
        argv = [swtpm, "socket", "--ctrl", f"type=unixio,clientfd={theirs.fileno()}", "--tpmstate", f"dir={state}"]
        argv += ["--tpm2"] if version == "v2.0" else []
        process = self.stack.enter_context(subprocess.Popen(argv, pass_fds=[theirs.fileno()]))
        self.stack.callback(process.kill)
        theirs.close()
        return self._kept(ours.detach())

    def _kept(self, fd: int) -> int:
        self.stack.callback(os.close, fd)
        return fd


@pytest.fixture(scope="module")
def emulated() -> HostFacts:
    """The facts of the installed QEMU, without KVM."""
    return replace(anyio.run(host_facts), kvm_refusal="not for this test")


@contextlib.contextmanager
def started(plan: VmPlan, host: HostFacts, folder: Path) -> Iterator[Qemu]:
    with contextlib.ExitStack() as stack:
        qemu = Qemu(plan, host, folder, stack)
        for command, arguments in startup_commands(plan):
            qemu.ask(command, arguments)
        yield qemu


def with_files(plan: VmPlan, host: HostFacts, folder: Path) -> VmPlan:
    """The plan with files that exist."""
    return replace(plan, disks=[with_file(disk, host, folder) for disk in plan.disks])


def with_file(disk: PlannedDisk, host: HostFacts, folder: Path) -> PlannedDisk:
    if disk.path is None:
        return disk
    if disk.key == "efidisk0":
        path = folder / f"{disk.key}.{disk.format}"
        shutil.copy(efi_variables(disk, host), path)
        if disk.device:
            # As a volume of LVM: a whole extent.
            os.truncate(path, 4 * MIB)
        return replace(disk, path=path, device=False)
    images = list(disk_image.links(DiskImage(disk.path, disk.format, backing=disk.backing)))
    made: DiskImage | None = None
    for number, image in reversed(list(enumerate(images))):
        path = folder / f"{disk.key}.{number}.{image.format}"
        on = ["-b", str(made.path), "-F", made.format] if made is not None else []
        argv = ["qemu-img", "create", "-q", "-f", image.format, *on, str(path), "4M"]
        subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)
        made = DiskImage(path, image.format, backing=made)
    assert made is not None
    return replace(disk, path=made.path, backing=made.backing)


def efi_variables(disk: PlannedDisk, host: HostFacts) -> Path:
    kind = getattr(disk.options, "efitype", None) or "2m"
    keys = bool(getattr(disk.options, "pre_enrolled_keys", False))
    return next(one.variables for one in host.firmware if one.efitype == kind and one.enrolled_keys == keys)


def in_own_network(work: Any) -> Any:
    """Run it in a thread whose network interfaces are nobody else's and vanish with it."""
    result: list[Any] = []
    failure: list[BaseException] = []

    def body() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "unshare")
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]


def taken(name: str, host: HostFacts, folder: Path) -> str | None:
    """Why QEMU does not take a golden file's arguments, None when it does."""
    folder.mkdir()

    def work() -> None:
        plan = with_files(planned(read(name)[1]), host, folder)
        with started(plan, host, folder) as qemu:
            assert qemu.ask("query-status")["running"] is False
            printed = qemu.quit()
            complaints = [line for line in printed.splitlines() if "TCG doesn't support" not in line and line.strip()]
            assert not complaints, complaints

    try:
        in_own_network(work)
    except (AssertionError, NotSupported, OSError) as error:
        return f"{name}: {error}"
    return None


def test_qemu_takes_every_golden_argument_list(emulated: HostFacts, tmp_path: Path) -> None:
    assert set(names()) >= set(NEEDS_HARDWARE)
    wanted = [name for name in names() if name not in NEEDS_HARDWARE]
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = list(pool.map(lambda name: taken(name, emulated, tmp_path / name), wanted))
    assert [why for why in found if why is not None] == []


def test_efi_variables_are_as_large_as_their_template_on_a_larger_volume(emulated: HostFacts, tmp_path: Path) -> None:
    plan = with_files(planned(read("ovmf-device")[1]), emulated, tmp_path)
    with started(plan, emulated, tmp_path) as qemu:
        nodes = {node["node-name"]: node["image"] for node in qemu.ask("query-named-block-nodes")}
        template = efi_variables(plan.disks[0], emulated).stat().st_size
        assert (nodes["drive-efidisk0"]["virtual-size"], nodes["file-efidisk0"]["virtual-size"]) == (template, 4 * MIB)


@pytest.mark.parametrize("name", NEEDS_HARDWARE)
def test_qemu_knows_the_names_of_what_needs_absent_hardware(name: str, emulated: HostFacts) -> None:
    host, config = read(name)
    plan = planned(config)
    argv = render_argv(plan, host, {need.name: range(10, 10 + need.count) for need in needs(plan, host)})
    for option, word in itertools.pairwise(argv):
        if option in ("-device", "-object") and word.startswith("{"):
            values = json.loads(word)
            kind = values.pop("driver", None) or values.pop("qom-type")
            known = properties(emulated, option, kind) | {"id", "bus"}
            assert set(values) <= known, f"{kind} of {name}"


def properties(host: HostFacts, option: str, kind: str) -> set[str]:
    argv = [str(host.emulator.binary), option, f"{kind},help"]
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return {line.strip().partition("=")[0] for line in done.stdout.splitlines() if "=<" in line}


def test_qemu_knows_the_cpu_features_of_kvm(emulated: HostFacts) -> None:
    """`-cpu` as it is rendered for KVM: emulation knows every name, but not every feature, nor the model `host`."""
    hosts = [(host, planned(config)) for host, config in map(read, names()) if host.accelerator == "kvm"]
    written = {cpu_argument(plan, host) for host, plan in hosts}
    assert any("hv-" in text for text in written)
    for text in written:
        model, _, features = text.partition(",")
        cpu = f"{'max' if model == 'host' else model},{features.replace('enforce=on', 'check=off')}"
        argv = [str(emulated.emulator.binary), "-nodefaults", "-display", "none", "-accel", "tcg", "-cpu", cpu]
        said = subprocess.run(
            [*argv, "-S", "-qmp", "stdio"],
            input='{"execute":"qmp_capabilities"}{"execute":"quit"}',
            check=False,
            capture_output=True,
            text=True,
        ).stderr
        # Hyper-V's features are looked at before it is seen that there is no KVM.
        assert said == "" or "HyperV" in said


MACHINES: Sequence[str] = ("pc", "q35")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("scsihw", ["virtio-scsi-single", "virtio-scsi-pci", "lsi"])
def test_qemu_takes_what_is_plugged(machine: str, scsihw: str, emulated: HostFacts, tmp_path: Path) -> None:
    in_own_network(lambda: plugged(machine, scsihw, emulated, tmp_path))


def plugged(machine: str, scsihw: str, host: HostFacts, folder: Path) -> None:
    base = {"machine": machine, "ostype": "l26", "hotplug": "memory,cpu,disk,network,usb", "cores": 4, "vcpus": 1}
    more: dict[str, Any] = base | {
        "scsihw": scsihw,
        "net0": "virtio=02:00:00:AA:BB:00,bridge=vmbr0,queues=2",
        "net8": "e1000=02:00:00:AA:BB:08,bridge=vmbr0",
        "scsi0": "local:100/a.qcow2,iothread=1,mbps=10,size=4M",
        "scsi9": "local:100/b.raw,size=4M",
        "virtio3": "local:100/c.raw,iothread=1,iops_wr=100",
        "virtio15": "local:100/d.raw",
        "usb0": "host=1234:abcd",
    }
    plan = with_files(planned(VmConfig.parse(more)), host, folder)
    with started(planned(VmConfig.parse(base)), host, folder) as qemu:
        there: set[str] = set()
        for disk in plan.disks:
            plug_disk(qemu, plan, disk, there)
        for index in plan.config.net:
            names = [f"net{index}-{number}" for number, _ in enumerate(qemu.tap(f"tap{index}", 2 if index == 0 else 1))]
            for name, fd in zip(names, qemu.tap(f"other{index}", len(names)), strict=True):
                qemu.ask("getfd", {"fdname": name}, fd)
            qemu.ask("netdev_add", render_network.nic_netdev(plan, index, names))
            qemu.ask("device_add", render_network.nic_device(plan, index))
        qemu.ask("device_add", render_usb.usb_device(plan, 0))
        qemu.ask("device_add", cpu_device(plan, host, 3))
        memory, module = memory_module(plan, host, 0, 128)
        qemu.ask("object-add", memory)
        qemu.ask("device_add", module)
        assert qemu.ask("query-memory-size-summary")["plugged-memory"] == 128 * MIB
        assert len(qemu.ask("query-cpus-fast")) == 2
        inserted = {block["qdev"] for block in qemu.ask("query-block") if "inserted" in block}
        assert inserted == {render_disks.drive_id(disk.key) for disk in plan.disks}
        qemu.quit()


def plug_disk(qemu: Qemu, plan: VmPlan, disk: PlannedDisk, there: set[str]) -> None:
    """Plug a drive as an engine does: its thread, its controller unless it is there, its image, itself, its rates."""
    thread, controller = render_disks.disk_iothread(plan, disk), render_disks.disk_controller(plan, disk)
    if thread is not None:
        qemu.ask("object-add", thread)
    if controller is not None and controller["id"] not in there:
        qemu.ask("device_add", controller)
        there.add(controller["id"])
    needs = render_disks.disk_needs(disk)
    fdsets = [qemu.ask("add-fd", {"opaque": need.name}, qemu.image(need))["fdset-id"] for need in needs]
    qemu.ask("blockdev-add", render_disks.disk_blockdev(plan, disk, fdsets))
    qemu.ask("device_add", render_disks.disk_device(plan, disk))
    if render_disks.is_limited(disk):
        qemu.ask("block_set_io_throttle", render_disks.disk_limits(disk))
