"""The TPM of a VM: a swtpm process beside QEMU, with the same walls, joined by a socket pair. Source: swtpm(8)."""

import os

from bastide.base.errors import HostFailure
from bastide.guest.qemu.runtime import new_log, read_log
from bastide.guest.vm_protocol import PlannedDisk
from bastide.host import confined, processes
from bastide.host.confined import Walls
from bastide.model.vm_disks import TpmState

BINARY = "/usr/bin/swtpm"


def argv(disk: PlannedDisk, state: int, control: int) -> list[str]:
    """swtpm's argument list; `state` and `control` are inherited descriptors of the state's file and of the socket."""
    modern = not isinstance(disk.options, TpmState) or disk.options.version == "v2.0"
    return [
        BINARY, "socket",
        "--ctrl", f"type=unixio,clientfd={control}",
        # Its own name of the descriptor: the file lies where this user cannot go.
        "--tpmstate", f"backend-uri=file:///proc/self/fd/{state}",
        "--terminate",
        *(["--tpm2"] if modern else []),
    ]  # fmt: skip


async def start(disk: PlannedDisk, control: int, walls: Walls) -> processes.Handle:
    """Start it; `control` is its end of the socket pair. Raises HostFailure with what it said."""
    if disk.path is None:
        raise HostFailure("tpmstate0 has no volume")
    try:
        state = os.open(disk.path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise HostFailure(f"cannot open {disk.path} for tpmstate0: {error.strerror}") from error
    log = new_log()
    try:
        # By the link in /proc it is opened anew, with this user's rights.
        os.fchown(state, walls.uid, walls.uid)
        return await confined.start(argv(disk, state, control), walls, log=log, inherit=(state, control))
    except HostFailure as error:
        raise HostFailure(f"the TPM did not start: {read_log(log).strip() or error}") from error
    finally:
        os.close(state)
        os.close(log)
