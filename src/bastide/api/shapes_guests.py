"""What is answered of guests: their rows in lists, what they do now, configurations, snapshots, series."""

from typing import Literal, TypeAlias

from bastide.api.shape import Flag, NotRequired, State, TypedDict, shape


@shape
class GuestResource(TypedDict):
    """A guest in `/cluster/resources`: bytes; `cpu` is a fraction of `maxcpu`."""

    id: str
    type: Literal["lxc", "qemu"]
    vmid: int
    node: str
    name: str
    status: State
    template: Flag
    cpu: float
    maxcpu: float
    mem: float
    maxmem: float
    disk: float
    maxdisk: float
    netin: float
    netout: float
    diskread: float
    diskwrite: float
    uptime: int
    tags: NotRequired[str]
    pool: NotRequired[str]
    lock: NotRequired[str]


@shape
class NodeResource(TypedDict):
    """A node; its figures with Sys.Audit."""

    id: str
    type: Literal["node"]
    node: str
    status: str
    level: str
    cpu: NotRequired[float]
    maxcpu: NotRequired[float]
    mem: NotRequired[float]
    maxmem: NotRequired[float]
    disk: NotRequired[float]
    maxdisk: NotRequired[float]
    uptime: NotRequired[int]


@shape
class StorageResource(TypedDict):
    """A storage in `/cluster/resources`, in bytes; `content` is a list with commas."""

    id: str
    type: Literal["storage"]
    storage: str
    node: str
    status: Literal["available", "unknown"]
    plugintype: str
    content: str
    shared: Flag
    disk: float
    maxdisk: float


@shape
class NetworkResource(TypedDict):
    """A zone of bridges."""

    id: str
    type: Literal["sdn"]
    sdn: str
    node: str
    status: str


@shape
class PoolResource(TypedDict):
    """A pool."""

    id: str
    type: Literal["pool"]
    pool: str


ClusterResource: TypeAlias = GuestResource | NodeResource | StorageResource | NetworkResource | PoolResource


@shape
class _Guest(TypedDict):
    vmid: int
    name: str
    status: State
    cpus: float
    cpu: float
    mem: float
    maxmem: float
    disk: float
    maxdisk: float
    diskread: float
    diskwrite: float
    netin: float
    netout: float
    uptime: int
    tags: NotRequired[str]
    template: NotRequired[Flag]
    lock: NotRequired[str]
    pressurecpusome: NotRequired[float]
    pressurecpufull: NotRequired[float]
    pressureiosome: NotRequired[float]
    pressureiofull: NotRequired[float]
    pressurememorysome: NotRequired[float]
    pressurememoryfull: NotRequired[float]


@shape
class HaState(TypedDict):
    """Whether high availability looks after a guest."""

    managed: Flag


@shape
class ContainerRow(_Guest):
    """A container and its latest figures, in bytes; `cpu` is a fraction of `cpus`."""

    type: Literal["lxc"]
    swap: float
    maxswap: float


@shape
class ContainerStatus(ContainerRow):
    """What a container does now."""

    ha: HaState
    pid: NotRequired[int | None]


@shape
class DiskTraffic(TypedDict):
    """What was read from and written to a drive since the VM started."""

    rd_bytes: int
    wr_bytes: int
    rd_operations: int
    wr_operations: int


@shape
class BalloonInfo(TypedDict):
    """What the balloon leaves a VM, and what the guest has of it, in bytes."""

    actual: int
    max_mem: int
    total_mem: NotRequired[int]
    free_mem: NotRequired[int]


_VmNames = TypedDict("_VmNames", {"running-machine": NotRequired[str], "running-qemu": NotRequired[str]})


@shape
class VmRow(_Guest, _VmNames):
    """A VM and its latest figures, in bytes; `cpu` is a fraction of `cpus`."""

    type: Literal["qemu"]
    qmpstatus: str
    memhost: NotRequired[float]
    accelerator: NotRequired[str]
    error: NotRequired[str]
    freemem: NotRequired[float]
    balloon: NotRequired[float]
    ballooninfo: NotRequired[BalloonInfo]
    blockstat: NotRequired[dict[str, DiskTraffic]]


@shape
class VmStatus(VmRow):
    """What a VM does now; `warning` says why it is slow, `error` what it stumbled over."""

    ha: HaState
    agent: Flag
    spice: Flag
    warning: NotRequired[str]
    serial: NotRequired[Flag]
    pid: NotRequired[int | None]


@shape
class PendingRow(TypedDict):
    """An option: what it is, what it will be at the next start, and whether it will be deleted (2: by force)."""

    key: str
    value: NotRequired[str | int | float]
    pending: NotRequired[str | int | float]
    delete: NotRequired[Literal[0, 1, 2]]


@shape
class SnapshotRow(TypedDict):
    """A snapshot, or with the name `current` the present state; `snaptime` in seconds since the epoch."""

    name: str
    description: str
    snaptime: NotRequired[int]
    parent: NotRequired[str]
    vmstate: NotRequired[Flag]
    snapstate: NotRequired[str]
    running: NotRequired[Flag]
    digest: NotRequired[str]


IpAddress = TypedDict("IpAddress", {"ip-address": str, "prefix": int, "ip-address-type": Literal["inet", "inet6"]})
_HardwareAddress = TypedDict("_HardwareAddress", {"hardware-address": str, "ip-addresses": list[IpAddress]})


@shape
class ContainerInterface(_HardwareAddress):
    """An interface as the container's kernel tells it."""

    name: str
    hwaddr: str
    inet: NotRequired[str]
    inet6: NotRequired[str]


@shape
class NamedGuest(TypedDict):
    """A guest, by whichever name it was asked for."""

    vmid: int
    name: str
    node: str
    type: Literal["lxc", "qemu"]
    status: State


@shape
class GuestAddresses(NamedGuest):
    """A guest, whether it starts with the host, and its addresses while it runs."""

    onboot: Flag
    addresses: list[str]


@shape
class Moment(TypedDict):
    """A row of a series: `time` in seconds since the epoch, and what was measured then of a guest, node or storage."""

    time: int
    cpu: NotRequired[float]
    maxcpu: NotRequired[float]
    mem: NotRequired[float]
    maxmem: NotRequired[float]
    disk: NotRequired[float]
    maxdisk: NotRequired[float]
    netin: NotRequired[float]
    netout: NotRequired[float]
    diskread: NotRequired[float]
    diskwrite: NotRequired[float]
    pressurecpufull: NotRequired[float]
    pressurecpusome: NotRequired[float]
    pressureiosome: NotRequired[float]
    pressureiofull: NotRequired[float]
    pressurememorysome: NotRequired[float]
    pressurememoryfull: NotRequired[float]
    iowait: NotRequired[float]
    loadavg: NotRequired[float]
    memtotal: NotRequired[float]
    memused: NotRequired[float]
    memavailable: NotRequired[float]
    swaptotal: NotRequired[float]
    swapused: NotRequired[float]
    roottotal: NotRequired[float]
    rootused: NotRequired[float]
    total: NotRequired[float]
    used: NotRequired[float]


_HasFeature = TypedDict("_HasFeature", {"hasFeature": Flag})


@shape
class Feature(_HasFeature):
    """Whether something can be made of a guest now, and of a VM on which nodes."""

    nodes: NotRequired[list[str]]


@shape
class TerminalOffer(TypedDict):
    """Where a console waits for its user, for half a minute."""

    user: str
    ticket: str
    port: int
    upid: str


@shape
class ScreenOffer(TerminalOffer):
    """Where a screen waits, with the certificate of who offers it."""

    cert: str
    password: NotRequired[str]
