"""What an engine is: small protocols, for both kinds of guest and for containers; VMs' are in `vm_protocol.py`."""

from asyncio.subprocess import Process
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bastide.host.pipeline import Stage
from bastide.model.backup import Tree
from bastide.model.container import ContainerConfig, MountPoint
from bastide.model.guest import Address, GuestState, Usage


@dataclass(frozen=True, slots=True)
class IdMap:
    """The guest's ids 0 .. `count - 1` are the host's `first` .. `first + count - 1`."""

    first: int
    count: int = 65536


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system to be seen in the guest at `options.mp`; `source` is a folder on the host.

    `mapped` is false for a bind mount, whose owners are shown as they are on the host.
    """

    source: Path
    options: MountPoint
    mapped: bool


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """Everything an engine needs to start a container, with nothing left to look up.

    `interfaces` maps each index of `config.net` to the name of its host end. `idmap` is None for a privileged one.
    `gateways` maps an index to the address that the managed bridge offers, for guests with `ip=auto`-like settings.
    """

    vmid: int
    config: ContainerConfig
    rootfs: Path
    mounts: Sequence[Mount]
    interfaces: Mapping[int, str]
    idmap: IdMap | None
    nameservers: Sequence[str] = ()
    searchdomain: str | None = None


@dataclass(frozen=True, slots=True)
class Terminal:
    """How to open a process in a guest: with a terminal of this size, or with pipes when None."""

    columns: int = 80
    rows: int = 24


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run in a guest. `uid` and `gid` are the guest's."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    uid: int = 0
    gid: int = 0


class Look(Protocol):
    """What every engine tells of its guests, how it ends them, and what it leaves."""

    def state(self, vmid: int) -> GuestState:
        """What the kernel says now; costs no process."""

    def running(self) -> frozenset[int]:
        """The guests that run (or are paused), also those started by an earlier daemon."""

    def init_pid(self, vmid: int) -> int | None:
        """The guest's first process as the host numbers it."""

    def started_at(self, vmid: int) -> float | None:
        """Seconds since the epoch at which it started."""

    async def stop(self, vmid: int) -> None:
        """Kill it; returns when it is gone."""

    async def wait_stopped(self, vmid: int) -> None:
        """Return once the guest does not run; at once if it does not."""

    def ended(self) -> frozenset[int]:
        """The guests that ran and do not any more, and that nobody has cleaned up after."""

    async def cleanup(self, vmid: int) -> bool:
        """Remove generated configuration and empty cgroups of a stopped guest; whether there were any."""

    def forget(self, vmid: int) -> None:
        """Remove what is kept of a guest that is no more, such as its log."""


class Lifecycle(Look, Protocol):
    """Start and stop, and the states between."""

    async def start(self, plan: ContainerPlan) -> None:
        """Start it; returns when its init runs. Raises HostFailure with the cause; then nothing of it is left."""

    async def shutdown(self, vmid: int, deadline: float) -> bool:
        """Ask it to halt; whether it did within the deadline (seconds)."""

    async def reboot(self, vmid: int, deadline: float) -> bool:
        """Ask its init to reboot; whether it began within the deadline."""

    async def freeze(self, vmid: int) -> None:
        """Pause every process."""

    async def thaw(self, vmid: int) -> None:
        """Undo `freeze`."""


class Inspection(Protocol):
    """Live figures without a process per guest."""

    def usage(self, vmid: int, *, stalls: bool = False) -> Usage | None:
        """Counters of a running guest, or None; `pressure` and `oom_kills` only with `stalls`: five reads more."""

    async def addresses(self, vmid: int) -> Sequence[Address]:
        """Addresses on the guest's interfaces: from its network namespace, or as its agent says."""

    def traffic(self, vmid: int) -> tuple[int, int]:
        """Bytes received and sent by the guest since it started, over all interfaces."""


class Execution(Protocol):
    """Processes in a guest."""

    async def execute(self, vmid: int, command: Command) -> Process:
        """Start a command with pipes at its standard streams. The exit code is the command's."""

    async def execute_terminal(self, vmid: int, command: Command, terminal: Terminal) -> tuple[Process, int]:
        """Start a command on a new pseudo-terminal; returns the process and the terminal's master descriptor."""

    async def console(self, vmid: int, tty: int, terminal: Terminal) -> tuple[Process, int]:
        """Attach to a console: tty 0 is /dev/console, 1 and up the virtual terminals."""


class HotChange(Protocol):
    """Changes of a running guest."""

    async def set_limits(self, vmid: int, config: ContainerConfig) -> None:
        """Apply memory, swap, cores, cpulimit and cpuunits."""

    async def add_interface(self, plan: ContainerPlan, index: int) -> None:
        """Give the running guest `plan.config.net[index]`, configured inside as it would be at a start."""

    async def remove_interface(self, vmid: int, name: str, host_name: str) -> None:
        """Take an interface away."""

    async def add_mount(self, plan: ContainerPlan, mount: Mount) -> None:
        """Mount a further file system in the running guest, never through a link of the guest's."""


class Preparation(Protocol):
    """Changing a stopped guest's files, never following a link out of its root."""

    def choose_ids(self, vmid: int, taken: Collection[int]) -> IdMap:
        """A range of host ids for a new guest; `taken` are the first ids of the others' ranges.

        Raises HostFailure when the host has none left.
        """

    def unpacking(self, tree: Tree, idmap: IdMap) -> AbstractAsyncContextManager[Sequence[str]]:
        """While entered, the command that unpacks a tar stream from its standard input into a tree.

        The command is confined to the id range and the tree: no member can reach anything else of the host. Folders
        that volumes are mounted at are made. A backup's `./etc/vzdump` is left out.
        """

    def packing(
        self, tree: Tree, idmap: IdMap, files: Mapping[str, bytes], exclude: Sequence[str] = ()
    ) -> AbstractContextManager[Stage]:
        """While entered, the process that writes a backup's tar stream: `files` in `./etc/vzdump`, then the tree.

        It is confined to the id range and the tree, and changes nothing; the folders that volumes are mounted at must
        be there. `exclude` are Proxmox VE's `exclude-path` patterns: shell globs, from the guest's root on if they
        begin with `/`, at any depth else. Raises InvalidParameter naming `exclude-path`.
        """

    def following(
        self, source: Tree, target: Path, idmap: IdMap, exclude: Sequence[str] = (), rate: int = 0
    ) -> Sequence[str]:
        """The command that makes a folder's files like a tree's, writing what differs alone, confined to both.

        `rate` in bytes a second, 0 for no limit. Its exit code is 24 when files vanished meanwhile (rsync(1)).
        """

    def copying(
        self, source: Path, source_ids: IdMap, target: Path, target_ids: IdMap
    ) -> tuple[Sequence[str], Sequence[str]]:
        """The commands that copy a file tree: one writes it to its standard output, the other makes it of that.

        Each is confined to its id range and its folder. Owners, modes, attributes, access lists and holes stay.
        """

    def detect(self, rootfs: Path) -> tuple[str, str]:
        """Distribution family (an `ostype`) and architecture of a root file system. `unmanaged` when unknown."""

    def customize(self, plan: ContainerPlan) -> None:
        """Write host name, network, DNS, time zone the way the distribution wants them (before each start)."""

    def set_credentials(self, plan: ContainerPlan, password_hash: str | None, ssh_keys: str | None) -> None:
        """Write root's password hash (crypt(5)) and authorized keys."""

    def set_identity(self, plan: ContainerPlan) -> None:
        """Give a fresh guest its own machine-id and ssh host keys (removed, to be made at the first boot)."""

    def seed(self, plan: ContainerPlan, texts: Mapping[str, str]) -> None:
        """Leave texts (`user-data`, `meta-data` ...) where cloud-init in the guest finds them.

        Raises WrongState when the guest has no cloud-init.
        """


class Engine(Look, Inspection, Protocol):
    """What the engines of both kinds have in common."""


class ContainerEngine(Lifecycle, Inspection, Execution, HotChange, Preparation, Protocol):
    """All that a container engine does."""
