"""What a VM engine is: small protocols that `qemu/` fulfils; `fake_vm.py` is one too."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bastide.guest.protocol import Inspection, Look
from bastide.model.backup import DiskExport
from bastide.model.storage import DiskImage
from bastide.model.vm import VmConfig
from bastide.model.vm_disks import Volume

ImageFormat = Literal["raw", "qcow2", "vmdk"]


@asynccontextmanager
async def at_once() -> AsyncIterator[None]:
    """Nothing to be done for the moment."""
    yield


@dataclass(frozen=True, slots=True)
class PlannedDisk:
    """A drive of the VM: its key (`scsi0`, `efidisk0`), its options, and the file to open.

    `path` is None for a CD-ROM drive without a medium. `size` is the virtual size in bytes; EFI variables have
    that of their template, even on a device that is larger. A `device` is a block
    device of the host's, whose format is always raw. `backing` is what a qcow2 image builds on, nothing else.
    """

    key: str
    options: Volume
    path: Path | None
    format: ImageFormat = "raw"
    size: int = 0
    read_only: bool = False
    device: bool = False
    backing: DiskImage | None = None


@dataclass(frozen=True, slots=True)
class VmPlan:
    """Everything an engine needs to start a VM, with nothing left to look up.

    `disks` holds the drives, EFI variables and TPM state, in the order of the options. `taps` maps each index of
    `config.net` to the name of its tap. `uid` is the host's user id of the VM's processes. `machine` is the pinned
    machine type (`pc-q35-7.2`). `uuid` and `vmgenid` identify the guest. `pci` maps each index of `config.hostpci` to
    the addresses (`0000:01:00.0`) of its functions or, for a mediated device, the path of it in sysfs. `bridge_mtu` is
    the MTU of each index of `config.net` whose options ask for the bridge's.
    """

    vmid: int
    name: str
    config: VmConfig
    disks: Sequence[PlannedDisk]
    taps: Mapping[int, str]
    uid: int
    machine: str
    uuid: str
    vmgenid: str | None = None
    pci: Mapping[int, Sequence[str]] = field(default_factory=dict)
    bridge_mtu: Mapping[int, int] = field(default_factory=dict)
    keymap: str | None = None

    def disk(self, key: str) -> PlannedDisk | None:
        """The drive with that key."""
        return next((disk for disk in self.disks if disk.key == key), None)


@dataclass(frozen=True, slots=True)
class VmStatus:
    """What QEMU says of a running VM. `state` is a RunState of QEMU's (`running`, `paused`, `io-error` ...).

    It is `unknown` when the monitor does not answer. `accelerator` is `kvm` or `tcg`. Memory in bytes: `balloon` is
    what the guest has now, `guest_free` and `guest_total` are what its balloon driver tells, None when it is silent.
    """

    state: str
    accelerator: Literal["kvm", "tcg"]
    machine: str = ""
    qemu: str = ""
    balloon: int | None = None
    guest_free: int | None = None
    guest_total: int | None = None
    vcpus: int | None = None
    disks: Mapping[str, "DiskCounters"] = field(default_factory=dict)
    error: str | None = None
    """What went wrong in the guest's machine and has not been mended: an input/output error, a panic, a dead TPM."""


@dataclass(frozen=True, slots=True)
class DiskCounters:
    """What a drive has done since the start: bytes and operations."""

    read: int
    written: int
    reads: int
    writes: int


class VmLifecycle(Look, Protocol):
    """Start, stop, and the states between."""

    async def start(self, plan: VmPlan, *, paused: bool = False) -> None:
        """Start it; returns when QEMU runs the guest. Raises HostFailure with the cause; nothing is left of it then."""

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """Ask it to halt by its agent or by ACPI; whether QEMU ended within the deadline (seconds)."""

    async def reset(self, vmid: int) -> None:
        """Press the reset button."""

    async def pause(self, vmid: int) -> None:
        """Stop the virtual CPUs."""

    async def resume(self, vmid: int) -> None:
        """Let them go on; also after an input/output error."""

    async def wake(self, vmid: int) -> None:
        """Wake a guest that suspended itself to memory."""

    async def status(self, vmid: int) -> VmStatus | None:
        """What QEMU says, within 2 s even when it hangs; None when the VM does not run."""

    def known_status(self, vmid: int) -> VmStatus | None:
        """What events told last, without asking."""


class VmHotChange(Protocol):
    """Changes of a running VM. Each raises HostFailure or NotSupported, and then nothing has changed."""

    async def add_disk(self, plan: VmPlan, key: str) -> None:
        """Attach `plan.disk(key)`."""

    async def remove_disk(self, vmid: int, key: str) -> None:
        """Detach a disk. Raises DeadlineExceeded when the guest does not let go of it."""

    async def change_medium(self, plan: VmPlan, key: str) -> None:
        """Put `plan.disk(key)` into its CD-ROM drive, or empty the drive."""

    async def change_disk_limits(self, plan: VmPlan, key: str) -> None:
        """Apply the rates of a disk's options."""

    async def resize_disk(self, vmid: int, key: str, size: int) -> None:
        """Grow a disk to `size` bytes, in its file and in the guest's sight."""

    async def add_interface(self, plan: VmPlan, index: int) -> None:
        """Attach `plan.config.net[index]` by its tap."""

    async def remove_interface(self, vmid: int, index: int) -> None:
        """Detach a network card."""

    async def set_link(self, vmid: int, index: int, *, up: bool) -> None:
        """Plug or unplug a network card's cable in the guest's sight."""

    async def set_vcpus(self, vmid: int, count: int) -> None:
        """Have `count` virtual CPUs plugged."""

    async def set_memory(self, vmid: int, mib: int) -> None:
        """Plug or unplug memory until the guest has `mib` MiB."""

    async def set_balloon(self, vmid: int, mib: int) -> None:
        """Set the balloon's target in MiB."""

    async def add_usb(self, plan: VmPlan, index: int) -> None:
        """Attach `plan.config.usb[index]`."""

    async def remove_usb(self, vmid: int, index: int) -> None:
        """Detach a USB device."""

    async def set_limits(self, vmid: int, config: VmConfig) -> None:
        """Apply cpulimit, cpuunits and affinity."""


@dataclass(frozen=True, slots=True)
class Mirror:
    """How far a disk's copy is: bytes of `total`, and whether it is in step, so that the guest can change over."""

    done: int
    total: int
    ready: bool


class VmSnapshots(Protocol):
    """A running VM's state, kept and given back; its disks at one point in time."""

    async def snapshot_disks(self, vmid: int, snapshot: str, keys: Sequence[str]) -> None:
        """Make internal snapshots of these drives (qcow2) at one point in time: all or none.

        Raises HostFailure; WrongState between `save_memory` and `resume`, when QEMU has let go of its disks.
        """

    async def delete_disk_snapshot(self, vmid: int, snapshot: str, key: str) -> None:
        """Forget a drive's internal snapshot; one that is gone already is fine."""

    async def save_memory(self, vmid: int, target: int, at_rest: Callable[[], Awaitable[None]] | None = None) -> None:
        """Write the VM's memory and devices to an open file, and leave it paused at that point until `resume`.

        The guest runs while most of it is written. Then it stands still, everything it wrote is on its disks, and
        `at_rest` is called: the state of the disks then goes with the memory. `resume` ends it at any point, also what
        a daemon that died had begun. Raises HostFailure, NoSpace, NotSupported for a VM whose devices cannot be saved,
        or what `at_rest` raises; then the VM runs on.
        """

    async def start_from(self, plan: VmPlan, memory: int) -> None:
        """Start a VM with what `save_memory` wrote, from an open file; it goes on where it was.

        `plan` has the devices and the machine type that the VM had then. Raises HostFailure, and leaves nothing.
        """


class VmMirrors(Protocol):
    """Copies of a running VM's disks."""

    async def mirror(self, plan: VmPlan, key: str, target: PlannedDisk, token: str, *, speed: int = 0) -> None:
        """Begin to copy a drive to another image of the same size, and keep that in step.

        `token` (at most 12 letters and digits) names the copy's node. `speed` in bytes a second, 0 for no limit.
        Raises HostFailure, NotSupported; nothing is left of it then.
        """

    async def mirror_progress(self, vmid: int, key: str) -> Mirror | None:
        """How far it is; None when there is no such job. Raises HostFailure with its error when it failed."""

    async def change_over(self, vmid: int, key: str) -> None:
        """Let the guest use the copy, which is in step, and close the old image. Raises HostFailure.

        After an error `image_token` says which one it uses.
        """

    async def cancel_mirror(self, vmid: int, key: str) -> None:
        """Stop copying, and close what the drive does not use, whichever of the two that is."""

    async def image_token(self, vmid: int, key: str) -> str | None:
        """The token of the copy that a drive uses, None when it uses the image that it was started with."""


class VmBackups(Protocol):
    """A running VM's disks as they are at one moment, to be read while the guest goes on."""

    async def begin_backup(
        self,
        vmid: int,
        fleeces: Mapping[str, int],
        *,
        resume: bool = False,
        still: Callable[[], AbstractAsyncContextManager[None]] = at_once,
    ) -> Mapping[str, DiskExport]:
        """Hold the present state of these drives, `efidisk0` too; {key: what to read it from}.

        `fleeces` gives an empty file or a device for each drive, as an open descriptor for reading and writing: what
        the guest overwrites goes there first. A fleece that is full ends the backup and never the guest. All drives are
        of one moment; the guest stands still for it (well under a second), and a paused one goes on if `resume`.
        `still` is entered for that moment alone, with what needs time done before. Raises HostFailure, WrongState when
        there is a backup already, or what `still` raises; nothing is left then.
        """

    async def backup_failed(self, vmid: int) -> str | None:
        """Why the state is not to be had any more, None as long as it is whole."""

    async def end_backup(self, vmid: int) -> None:
        """Let go of the states, also of what a daemon that died held; without any it is fine. The guest goes on."""


class VmAgent(Protocol):
    """The guest's agent (QEMU's guest agent protocol)."""

    async def ask(self, vmid: int, command: str, arguments: Mapping[str, Any] | None = None, *, deadline: float) -> Any:
        """One command's answer, `return` of the protocol.

        Raises WrongState without a running guest or an agent, DeadlineExceeded when it does not answer in time,
        HostFailure with the agent's error or for an answer that is none (too long, not JSON).
        """

    async def agent_answers(self, vmid: int) -> bool:
        """Whether an agent answers now, within 2 s."""


class VmConsole(Protocol):
    """Screens and ports."""

    async def serial(self, vmid: int, port: int) -> int:
        """A connected descriptor to `serial<port>`, the caller's to close. Raises WrongState when it has none."""

    async def vnc(self, vmid: int, password: str | None = None) -> int:
        """A connected descriptor that speaks RFB with the guest's screen, the caller's to close."""

    async def spice_password(self, vmid: int, password: str, seconds: int) -> None:
        """Set what SPICE clients must know for as long. Raises WrongState for a VM without SPICE (`vga: qxl`)."""

    async def spice(self, vmid: int) -> int:
        """A connected descriptor for one channel of a SPICE client, the caller's to close. Raises WrongState."""

    async def screenshot(self, vmid: int) -> bytes:
        """The screen as PNG."""

    async def send_keys(self, vmid: int, keys: Sequence[str]) -> None:
        """Press keys together (QKeyCode names such as `ctrl`, `alt`, `delete`)."""

    async def monitor(self, vmid: int, line: str) -> str:
        """Run a command of QEMU's human monitor and return what it prints."""


class VmEngine(VmLifecycle, Inspection, VmHotChange, VmSnapshots, VmMirrors, VmBackups, VmAgent, VmConsole, Protocol):
    """All that a VM engine does."""

    @property
    def accelerator(self) -> tuple[Literal["kvm", "tcg"], str | None]:
        """How guests run on this host, and as a sentence why not by KVM."""

    def choose_uid(self, vmid: int, taken: Collection[int]) -> int:
        """A user id for a new VM's processes; `taken` are the other VMs'."""

    def pin_machine(self, config: VmConfig) -> str:
        """The versioned machine type that the options mean on this host. Raises InvalidParameter naming `machine`."""

    def check(self, config: VmConfig) -> None:
        """Raise InvalidParameter, naming each option that this host's QEMU cannot fulfil."""

    def efi_variables(self, config: VmConfig) -> Path:
        """The template of the EFI variables that `efidisk0` asks for. Raises NotSupported without the firmware."""

    def on_event(self, listener: Callable[[int, str, Mapping[str, Any]], Awaitable[None]]) -> None:
        """Tell `listener(vmid, event, data)` of QEMU's events, such as `BLOCK_IO_ERROR`, and `GONE` when it ended."""
