"""What is answered of the node and of tasks."""

from typing import Literal

from bastide.api.shape import Flag, NotRequired, State, TypedDict, shape


@shape
class TaskRow(TypedDict):
    """A task; `endtime` (seconds since the epoch) and `status` once it has ended: `OK`, `WARNINGS: n` or the error."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    tokenid: NotRequired[str]
    endtime: NotRequired[int]
    status: NotRequired[str]


@shape
class ClusterTaskRow(TaskRow):
    """A task of any node."""

    saved: Literal["0", "1"]


@shape
class TaskStatus(TypedDict):
    """Whether a task runs; `exitstatus` once it does not."""

    upid: str
    node: str
    pid: int
    pstart: int
    starttime: int
    type: str
    id: str
    user: str
    tokenid: NotRequired[str]
    status: State
    exitstatus: NotRequired[str]


@shape
class LogLine(TypedDict):
    """A line of a task's log, counted from 1."""

    n: int
    t: str


@shape
class TaskNews(TaskStatus):
    """How a task stands, and the lines of its log that were asked for."""

    log: NotRequired[list[LogLine]]


@shape
class Cpuinfo(TypedDict):
    """The machine's processors; `hvm` is `1` when they can run VMs."""

    model: str
    cpus: int
    cores: int
    sockets: int
    mhz: str | float
    flags: str
    hvm: str
    user_hz: int


@shape
class Memory(TypedDict):
    """Memory or swap in bytes."""

    total: int
    used: int
    free: int
    available: NotRequired[int]


@shape
class RootSpace(TypedDict):
    """The space of the root file system in bytes."""

    total: int
    used: int
    free: int
    avail: int


@shape
class SharedMemory(TypedDict):
    """What the kernel shares between VMs, in bytes."""

    shared: int


@shape
class Kernel(TypedDict):
    """The kernel's names."""

    sysname: str
    release: str
    version: str
    machine: str


@shape
class BootInfo(TypedDict):
    """How the machine booted."""

    mode: Literal["efi", "legacy-bios"]
    secureboot: NotRequired[Flag]


_NodeNames = TypedDict("_NodeNames", {"current-kernel": Kernel, "boot-info": BootInfo})


@shape
class NodeStatus(_NodeNames):
    """What the node does now: `cpu` and `wait` are fractions of all processors, sizes in bytes."""

    cpu: float
    wait: float
    idle: float
    cpuinfo: Cpuinfo
    memory: Memory
    swap: Memory
    rootfs: RootSpace
    ksm: SharedMemory
    loadavg: list[str]
    uptime: int
    kversion: str
    pveversion: str


@shape
class Clock(TypedDict):
    """The node's time in seconds since the epoch; `localtime` as if it were UTC."""

    timezone: str
    time: int
    localtime: int


_VlanNames = TypedDict("_VlanNames", {"vlan-id": NotRequired[int], "vlan-raw-device": NotRequired[str]})


@shape
class InterfaceRow(_VlanNames):
    """An interface of the node."""

    iface: str
    type: str
    active: Flag
    exists: Flag
    autostart: Flag
    families: list[Literal["inet", "inet6"]]
    mtu: int
    priority: int
    method: str
    method6: str
    address: NotRequired[str]
    address6: NotRequired[str]
    netmask: NotRequired[str]
    netmask6: NotRequired[int]
    cidr: NotRequired[str]
    cidr6: NotRequired[str]
    gateway: NotRequired[str]
    gateway6: NotRequired[str]
    bridge_ports: NotRequired[str]
    bridge_vlan_aware: NotRequired[Flag]
    slaves: NotRequired[str]


@shape
class GuestCount(TypedDict):
    """How many guests the caller may see."""

    total: int
    running: int


@shape
class DaemonStatus(TypedDict):
    """The daemon; `started` in seconds since the epoch. `accelerator` is how VMs run, `emulation` why without KVM."""

    version: str
    node: str
    address: str
    port: int
    bridge: str
    pid: int
    started: int
    accelerator: str
    emulation: NotRequired[str]
    guests: GuestCount


@shape
class Version(TypedDict):
    """The API's version, and `bastide` the program's."""

    version: str
    release: str
    repoid: str
    bastide: str


@shape
class SetAside(TypedDict):
    """A record of the state that cannot be read, and why; `size` in characters."""

    key: str
    reason: str
    size: int


@shape
class SetAsideText(SetAside):
    """The same with its text."""

    value: str
