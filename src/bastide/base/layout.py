"""Where a Bastide keeps its files. Pure paths; nothing is made here.

Without a root folder the places are the ones of the Filesystem Hierarchy Standard; with one, everything lives below
it, so that several hosts can share a machine.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders of one Bastide. `root` is absolute or None for the machine's own places."""

    root: Path | None = None

    @property
    def state(self) -> Path:
        """What must survive a reboot: the store, certificates, metrics, task logs."""
        return self.root / "state" if self.root else Path("/var/lib/bastide")

    @property
    def runtime(self) -> Path:
        """What must not survive a reboot: sockets, generated configuration, mounts."""
        return self.root / "run" if self.root else Path("/run/bastide")

    @property
    def logs(self) -> Path:
        """Logs of the daemon and of the guests' monitors."""
        return self.root / "log" if self.root else Path("/var/log/bastide")

    @property
    def local_storage(self) -> Path:
        """The folder of the storage `local`."""
        return self.state / "storage"

    @property
    def socket(self) -> Path:
        """The UNIX socket of the API, for root on this machine."""
        return self.runtime / "api.sock"

    @property
    def pid_file(self) -> Path:
        """Process id of the daemon."""
        return self.runtime / "daemon.pid"

    @property
    def instance(self) -> str:
        """A name, unique on the machine, for cgroups and nftables tables: `bastide` or `bastide-1f2e3d4c`."""
        if self.root is None:
            return "bastide"
        return f"bastide-{hashlib.sha256(str(self.root).encode()).hexdigest()[:8]}"
