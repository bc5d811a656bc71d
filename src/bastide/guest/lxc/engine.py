"""The container engine: LXC through its tools, one supervised monitor a container, which outlives the daemon."""

import contextlib
from collections.abc import Collection

from bastide.base.errors import HostFailure
from bastide.base.layout import Layout
from bastide.guest.lxc import host as facts
from bastide.guest.lxc import ids
from bastide.guest.lxc.hotchange import HotChange
from bastide.guest.lxc.inspection import Inspection
from bastide.guest.lxc.lifecycle import Lifecycle
from bastide.guest.lxc.lxcfs import Lxcfs
from bastide.guest.lxc.preparation import Preparation
from bastide.guest.lxc.runtime import Runtime
from bastide.guest.protocol import IdMap
from bastide.host import cgroup_tree, kernel_limits

# A systemd guest holds about ten inotify instances. The kernel counts those of every guest against the host's root
# too, who made their user namespaces (user_namespaces(7), ucounts): its usual limit of 128 ends at twelve guests.
_KERNEL_SETTINGS = {"fs/inotify/max_user_instances": 16384}
# Beside every instance's own folder: the settings are the machine's, and the first instance notes what they were.
_SETTINGS_RECORD = "bastide-settings.json"


class LxcEngine(Lifecycle, Inspection, HotChange, Preparation):
    """`guest/protocol.ContainerEngine` for LXC. Its parts share one `Runtime`; it keeps nothing the kernel does not."""

    def __init__(self, layout: Layout) -> None:
        """Find the containers that run already."""
        self._runtime = Runtime(layout)
        self._lxcfs = Lxcfs(self._runtime.shared / "lxcfs", layout.runtime / "lxcfs.pid")

    async def prepare(self) -> None:
        """What the host needs before the first guest starts; called at every start of the daemon."""
        self._runtime.layout.runtime.mkdir(parents=True, exist_ok=True)
        self._runtime.shared.mkdir(exist_ok=True)
        # Guests' roots pass through; nobody can list it.
        self._runtime.shared.chmod(0o711)
        kernel_limits.raise_to(_KERNEL_SETTINGS, self._runtime.shared.with_name(_SETTINGS_RECORD))
        self._keep_processes()
        await self._lxcfs.prepare()

    def _keep_processes(self) -> None:
        """See that all guests together leave the host a tenth of its processes (the kernel's cgroup-v1/pids.rst)."""
        group = self._runtime.layout.instance
        # On a kernel without that controller each guest has its limit all the same.
        with contextlib.suppress(HostFailure, OSError):
            cgroup_tree.make(self._runtime.groups, group)
            self._runtime.groups.write(group, "pids", "pids.max", str(facts.all_guests_processes()))

    async def purge(self) -> None:
        """Undo `prepare` when no guest runs: for `down --purge`."""
        await self._lxcfs.stop()
        self._runtime.groups.remove(self._runtime.layout.instance)
        with contextlib.suppress(OSError):
            self._runtime.shared.rmdir()
        if not list(self._runtime.shared.parent.glob("bastide*-guests")):
            kernel_limits.give_back(self._runtime.shared.with_name(_SETTINGS_RECORD))

    def choose_ids(self, vmid: int, taken: Collection[int]) -> IdMap:
        """A range of host ids for a new guest, apart from everyone else's on this machine."""
        return ids.choose(vmid, taken, [*ids.host_reserved(), *ids.in_use()])
