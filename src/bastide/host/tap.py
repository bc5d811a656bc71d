"""Taps: network interfaces whose other end is a descriptor, which a VM's process inherits.

They are not persistent: a tap goes when the last descriptor of it is closed, so that no end of a VM leaves one behind.
Source: the kernel's networking/tuntap.rst, <linux/if_tun.h>.
"""

import contextlib
import fcntl
import os
import struct
from pathlib import Path

from bastide.base.errors import HostFailure

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_MULTI_QUEUE = 0x0002, 0x1000, 0x4000, 0x0100
_SYS = Path("/sys/class/net")


def open_tap(name: str, queues: int = 1) -> list[int]:
    """Make the tap and return one descriptor a queue, the caller's to close. Raises HostFailure."""
    flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR | (_IFF_MULTI_QUEUE if queues > 1 else 0)
    found: list[int] = []
    try:
        for _ in range(queues):
            found.append(os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
            # `struct ifreq`: 16 bytes of name, then a union of 24.
            fcntl.ioctl(found[-1], _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except OSError as error:
        for descriptor in found:
            os.close(descriptor)
        raise HostFailure(f"cannot make the network interface {name}: {error.strerror}") from error
    return found


def open_vhost(count: int) -> list[int]:
    """Descriptors of /dev/vhost-net, the caller's to close; none where the host lacks it."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        found.extend(os.open("/dev/vhost-net", os.O_RDWR | os.O_CLOEXEC) for _ in range(count))
        return found
    for descriptor in found:
        os.close(descriptor)
    return []


def traffic(name: str) -> tuple[int, int]:
    """Bytes that whoever holds the other end received and sent: what the host's end sent and received."""
    try:
        texts = [(_SYS / name / "statistics" / side).read_text() for side in ("tx_bytes", "rx_bytes")]
    except OSError:
        return 0, 0
    return int(texts[0]), int(texts[1])
