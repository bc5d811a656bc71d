"""A helper process that becomes a VM's process: an own user, an own root, own control groups, and no right at all.

`start` starts it; it is nobody's child, so that it outlives the daemon. The program (QEMU, swtpm) runs with the uid
that it is given, in a mount namespace whose root holds the host's programs and libraries, /sys and the few devices that
it needs, read-only but for the devices; its /proc shows its own user's processes alone. It inherits what it works with
as open descriptors.

Sources: unshare(2), pivot_root(2), setpriv(1), proc(5) for `hidepid` and `subset`, setrlimit(2).
"""

import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import processes
from bastide.host.run import kill_group, spawn

_SOURCE = str(Path(__file__).parents[2])
_HELPER = "import sys; sys.path.insert(0, sys.argv.pop(1)); from bastide.host.confined_helper import main; main()"


@dataclass(frozen=True, slots=True)
class Walls:
    """What a process is let through to.

    `groups` are supplementary groups, `cgroups` the folders of its control group, `devices` device nodes or folders
    below /dev that it sees. `locked_memory`: whether it may lock memory without a limit, as VFIO does.
    """

    uid: int
    cgroups: Sequence[str] = ()
    groups: Sequence[int] = ()
    devices: Sequence[str] = ()
    locked_memory: bool = False


async def start(argv: Sequence[str], walls: Walls, *, log: int, inherit: Sequence[int] = ()) -> processes.Handle:
    """Run `argv` (an absolute program) within the walls. What it says goes to the descriptor `log`.

    The descriptors in `inherit` keep their numbers. Returns when the process is there, before the program runs: whether
    it does is seen from its end. Raises HostFailure.
    """
    helper = [sys.executable, "-I", "-S", "-c", _HELPER, _SOURCE, str(os.getpid()), json.dumps(asdict(walls)), *argv]
    process = await spawn(helper, stdout=PIPE, stderr=log, pass_fds=inherit, cwd=Path("/"))
    try:
        told = await process.stdout.read() if process.stdout is not None else b""
        await process.wait()
        return processes.Handle(int(told))
    except (ValueError, ProcessLookupError):
        raise HostFailure(f"{argv[0]} ended at once") from None
    finally:
        if process.returncode is None:
            await kill_group(process)
