"""What is answered of the machine's devices, and of what VMs can be made of."""

from bastide.api.shape import NotRequired, TypedDict, shape

_PciNames = TypedDict("_PciNames", {"class": NotRequired[str]})
_UsbNames = TypedDict("_UsbNames", {"class": int})


@shape
class PciRow(_PciNames):
    """A PCI device: its address, and unless it was asked for briefly, what it is. `iommugroup` -1: it has none."""

    id: str
    vendor: NotRequired[str]
    device: NotRequired[str]
    iommugroup: NotRequired[int]
    mdev: NotRequired[bool]
    subsystem_vendor: NotRequired[str]
    subsystem_device: NotRequired[str]
    vendor_name: NotRequired[str]
    device_name: NotRequired[str]
    subsystem_vendor_name: NotRequired[str]
    subsystem_device_name: NotRequired[str]


@shape
class MdevRow(TypedDict):
    """A kind of mediated device, and how many of it there can be yet."""

    type: str
    available: int
    description: str
    name: NotRequired[str]


@shape
class UsbRow(_UsbNames):
    """A USB device; `usbpath` says where it is plugged in."""

    busnum: int
    devnum: int
    vendid: str
    prodid: str
    speed: str
    level: int
    port: int
    usbpath: NotRequired[str]
    product: NotRequired[str]
    manufacturer: NotRequired[str]
    serial: NotRequired[str]


@shape
class CpuModelRow(TypedDict):
    """A CPU type that a VM can have."""

    name: str
    vendor: str
    custom: bool


@shape
class CpuFlagRow(TypedDict):
    """A CPU flag that can be set or cleared."""

    name: str
    description: str


@shape
class MachineRow(TypedDict):
    """A versioned machine type."""

    id: str
    type: str
    version: str
