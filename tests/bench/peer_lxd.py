"""LXD (Debian's package `lxd`) beside us, in a folder of its own: the peer whose start and commands we compare with."""

import contextlib
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

PRESEED = """
storage_pools: [POOL]
profiles:
- name: default
  devices:
    root: {path: /, pool: default, type: disk}
    eth0: {name: eth0, nictype: bridged, parent: BRIDGE, type: nic}
"""


class Lxd:
    """A running LXD."""

    def __init__(self, folder: Path) -> None:
        self.environment = {"LXD_DIR": str(folder), "HOME": str(folder), "PATH": os.environ["PATH"]}
        self.folder = folder

    def client(self, *arguments: str, data: bytes | None = None) -> bytes:
        """The `lxc` command."""
        return self._run("lxc", *arguments, data=data)

    def _run(self, *argv: str, data: bytes | None = None) -> bytes:
        done = subprocess.run(argv, env=self.environment, input=data or b"", capture_output=True, check=False)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def set_up(self, bridge: str, template: Path, pool: str) -> None:
        """A pool, the bridge, and the template as image `base`."""
        self._run("lxd", "waitready", "--timeout", "60")
        self._run("lxd", "init", "--preseed", data=PRESEED.replace("BRIDGE", bridge).replace("POOL", pool).encode())
        metadata = b"architecture: x86_64\ncreation_date: 1700000000\nproperties: {os: debian}\n"
        with tarfile.open(self.folder / "meta.tar", "w") as archive:
            member = tarfile.TarInfo("metadata.yaml")
            member.size = len(metadata)
            archive.addfile(member, BytesIO(metadata))
        rootfs = self.folder / "rootfs.tar"
        subprocess.run(["zstd", "-dqf", str(template), "-o", str(rootfs)], check=True)
        self.client("image", "import", str(self.folder / "meta.tar"), str(rootfs), "--alias", "base")

    def wait_up(self, name: str) -> None:
        """Until systemd says running."""
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            argv = ["lxc", "exec", name, "--", "systemctl", "is-system-running"]
            done = subprocess.run(
                argv, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
            )
            if done.stdout.strip() in (b"running", b"degraded"):
                return
            time.sleep(0.1)
        raise AssertionError(f"LXD's {name} did not come up")


@contextlib.contextmanager
def running_lxd(bridge: str, template: Path, btrfs: Path | None = None) -> Iterator[Lxd]:
    """An LXD that is gone afterwards; its pool is a folder, or one on the file system `btrfs`."""
    pool = "{name: default, driver: dir}"
    if btrfs is not None:
        pool = f"{{name: default, driver: btrfs, config: {{source: {btrfs}}}}}"
    folder = Path(tempfile.mkdtemp(prefix="lxd-", dir="/var/tmp"))
    folder.chmod(0o711)
    peer = Lxd(folder)
    with (folder / "log").open("wb") as log:
        daemon = subprocess.Popen(["lxd", "--group", "root"], env=peer.environment, stdout=log, stderr=log)
    try:
        peer.set_up(bridge, template, pool)
        yield peer
    finally:
        with contextlib.suppress(AssertionError):
            peer.client("delete", "--force", *peer.client("list", "-cn", "--format=csv").decode().split())
            peer._run("lxd", "shutdown", "--timeout", "30")
        with contextlib.suppress(ProcessLookupError):
            daemon.send_signal(signal.SIGKILL)
        daemon.wait()
        for name in ("devlxd", "shmounts"):
            subprocess.run(["umount", "-l", str(folder / name)], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(folder, ignore_errors=True)
