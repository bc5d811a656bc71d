"""Making a control group that is ready for processes, in both versions.

Sources: cgroups(7), the kernel's admin-guide/cgroup-v1/cpusets.rst and admin-guide/cgroup-v2.rst.
"""

import contextlib
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host.cgroups import Cgroups, read

_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


def make(groups: Cgroups, group: str) -> list[Path]:
    """Make the group in every hierarchy; returns its folders. Raises HostFailure.

    In version 2 its controllers are switched on from the top; in version 1 its set of CPUs is its parent's, because no
    process may enter a group whose set is empty.
    """
    folders = groups.hierarchies(group)
    try:
        for root, folder in zip(groups.hierarchies(""), folders, strict=True):
            _make_below(root, folder)
    except OSError as error:
        raise HostFailure(f"cannot make the control group {group}: {error.strerror}") from error
    return folders


def _make_below(root: Path, folder: Path) -> None:
    at = root
    for part in folder.relative_to(root).parts:
        for controller in _CONTROLLERS:
            # What this kernel lacks, or another keeps for itself, is no limit here.
            with contextlib.suppress(OSError), open(at / "cgroup.subtree_control", "r+") as file:
                file.write(f"+{controller}")
        above, at = at, at / part
        at.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (root / "cpuset.cpus").exists() and not read(at / name):
                (at / name).write_text(read(above / name) or "0")
