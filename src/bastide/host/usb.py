"""USB devices of this machine, as sysfs shows them.

Sources: `Documentation/ABI/testing/sysfs-bus-usb`, `.../stable/sysfs-bus-usb`. A device is named for where it is
plugged in, `BUS-PORT.PORT`; a root hub is `usbBUS`; names with a colon are interfaces of a device.
"""

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys")
_NAME = re.compile(r"usb(?P<hub>[0-9]+)|(?P<bus>[0-9]+)-(?P<ports>[0-9]+(?:\.[0-9]+)*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class UsbDevice:
    """A USB device. `ports` is the way to it from its bus (`1.2`), empty for a root hub; `speed` is in Mbit/s.

    `product`, `manufacturer` and `serial` are what the device says of itself.
    """

    bus: int
    number: int
    vendor: int
    device: int
    device_class: int
    speed: str
    ports: str = ""
    product: str | None = None
    manufacturer: str | None = None
    serial: str | None = None

    @property
    def level(self) -> int:
        """How many plugs lie between it and the root hub, which is 0."""
        return len(self.ports.split(".")) if self.ports else 0

    @property
    def port(self) -> int:
        """The port of its hub; 0 for a root hub."""
        return int(self.ports.rpartition(".")[2]) if self.ports else 0

    @property
    def node(self) -> Path:
        """Its device file."""
        return Path(f"/dev/bus/usb/{self.bus:03d}/{self.number:03d}")


def devices(sysfs: Path = SYSFS) -> list[UsbDevice]:
    """All USB devices, root hubs included, in the order of buses and device numbers."""
    found: list[UsbDevice] = []
    with contextlib.suppress(FileNotFoundError):
        for folder in (sysfs / "bus/usb/devices").iterdir():
            match = _NAME.fullmatch(folder.name)
            # A device can be unplugged while it is looked at.
            with contextlib.suppress(OSError, ValueError):
                if match is not None:
                    found.append(_read(folder, match["ports"] or ""))
    return sorted(found, key=lambda known: (known.bus, known.number))


def find(host: str, sysfs: Path = SYSFS) -> list[UsbDevice]:
    """The devices that `host` of a usb option means: `VENDOR:PRODUCT` in hex, or `BUS-PORT` for at most one."""
    text = host.lower()
    if ":" in text:
        vendor, _, product = text.partition(":")
        with contextlib.suppress(ValueError):
            wanted = int(vendor, 16), int(product, 16)
            return [known for known in devices(sysfs) if known.ports and (known.vendor, known.device) == wanted]
        return []
    bus, _, ports = text.partition("-")
    return [known for known in devices(sysfs) if ports and str(known.bus) == bus and known.ports == ports]


def _read(folder: Path, ports: str) -> UsbDevice:
    def text(name: str) -> str | None:
        try:
            return "".join(char for char in (folder / name).read_text(errors="replace") if char.isprintable()) or None
        except FileNotFoundError:
            return None

    return UsbDevice(
        bus=int(text("busnum") or ""),
        number=int(text("devnum") or ""),
        vendor=int(text("idVendor") or "", 16),
        device=int(text("idProduct") or "", 16),
        device_class=int(text("bDeviceClass") or "0", 16),
        speed=text("speed") or "",
        ports=ports,
        product=text("product"),
        manufacturer=text("manufacturer"),
        serial=text("serial"),
    )
