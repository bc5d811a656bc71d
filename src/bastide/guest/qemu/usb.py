"""The host's USB devices that a VM's process may open: their nodes below /dev/bus/usb belong to its user meanwhile."""

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from bastide.base.errors import HostFailure, WrongState
from bastide.guest.vm_protocol import VmPlan
from bastide.host import usb, users

FOLDER = "/dev/bus/usb"


def hand_over(plan: VmPlan, indexes: Iterable[int]) -> None:
    """Give the nodes of the devices of `config.usb` to the VM's user; one that is not there now is left out.

    Raises WrongState for one that another VM has, HostFailure.
    """
    for index in indexes:
        host = plan.config.usb[index].host or ""
        for device in [] if host.lower() in ("", "spice") else usb.find(host):
            try:
                if os.stat(device.node).st_uid not in (0, plan.uid):
                    raise WrongState(f"usb{index}: the USB device {host} is given to another virtual machine")
                os.chown(device.node, plan.uid, -1)
            except OSError as error:
                raise HostFailure(f"cannot give the USB device {host} to the VM: {error.strerror}") from error


def take_back(uid: int, folder: Path = Path(FOLDER)) -> None:
    """Make the nodes of a VM's user root's again."""
    _take(folder, lambda owner: owner == uid)


def take_back_stale(folder: Path = Path(FOLDER)) -> None:
    """Make root's what belongs to a VM's user who has no process, also of another Bastide: a start was cut short."""
    busy = users.in_use()
    _take(folder, lambda owner: owner >= users.FIRST and owner not in busy)


def _take(folder: Path, is_meant: Callable[[int], bool]) -> None:
    for node in folder.glob("*/*"):
        with contextlib.suppress(OSError):
            if is_meant(node.stat().st_uid):
                os.chown(node, 0, -1)
