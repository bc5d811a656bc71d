"""The same work by hand: tar, an LXC configuration of a few lines, and LXC's own tools."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

TOOLS = {"PATH": "/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


class PlainLxc:
    """Containers in a folder, made and run by hand on the bridge of a host. `below` says on which file system."""

    def __init__(self, bridge: str, below: Path = Path("/var/tmp")) -> None:
        self.bridge = bridge
        self.folder = Path(tempfile.mkdtemp(prefix="plain-", dir=below))
        self.folder.chmod(0o711)  # the mapped root must be able to pass

    def dispose(self) -> None:
        """Stop and remove every container."""
        for folder in self.folder.iterdir():
            subprocess.run(
                ["/usr/bin/lxc-stop", "-k", "-P", str(self.folder), "-n", folder.name],
                env=TOOLS, check=False, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        shutil.rmtree(self.folder)

    def create(self, name: str, template: Path, number: int) -> None:
        """Unpack a template and write a configuration."""
        rootfs = self.folder / name / "rootfs"
        rootfs.mkdir(parents=True)
        decompress = subprocess.Popen(["zstd", "-dc", str(template)], stdout=subprocess.PIPE)
        subprocess.run(
            ["tar", "-xpf", "-", "-C", str(rootfs), "--numeric-owner", "--xattrs", "--xattrs-include=*"],
            stdin=decompress.stdout, check=True,
        )  # fmt: skip
        assert decompress.wait() == 0
        (rootfs / "etc/hostname").write_text(name)
        network = rootfs / "etc/systemd/network"
        network.mkdir(exist_ok=True)
        (network / "eth0.network").write_text("[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
        first = 400_000_000 + number * 65536
        (self.folder / name / "config").write_text(
            f"lxc.uts.name = {name}\nlxc.rootfs.path = dir:{rootfs}\nlxc.rootfs.options = idmap=container\n"
            f"lxc.idmap = u 0 {first} 65536\nlxc.idmap = g 0 {first} 65536\n"
            "lxc.mount.auto = cgroup:mixed proc:mixed sys:mixed\nlxc.apparmor.profile = unconfined\n"
            "lxc.tty.max = 2\nlxc.pty.max = 1024\nlxc.seccomp.profile = /usr/share/lxc/config/common.seccomp\n"
            f"lxc.net.0.type = veth\nlxc.net.0.link = {self.bridge}\nlxc.net.0.flags = up\nlxc.net.0.name = eth0\n"
        )

    def start(self, name: str) -> None:
        """lxc-start."""
        self._tool("lxc-start", name)

    def stop(self, name: str) -> None:
        """lxc-stop -k."""
        self._tool("lxc-stop", name, "-k")

    def destroy(self, name: str) -> None:
        """What lxc-destroy does: remove the folder."""
        shutil.rmtree(self.folder / name)

    def execute(self, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
        """lxc-attach."""
        return attach(self.folder, name, *argv)

    def _tool(self, tool: str, name: str, *arguments: str) -> None:
        subprocess.run([f"/usr/bin/{tool}", "-P", str(self.folder), "-n", name, *arguments], env=TOOLS, check=True)


def attach(folder: Path, name: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command in a container of the LXC path `folder`."""
    return subprocess.run(
        ["/usr/bin/lxc-attach", "-P", str(folder), "-n", name, "--clear-env", "--", *argv],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


_UP = (
    "case $(systemctl is-system-running) in running|degraded) ip -4 -o addr show eth0 | grep -q inet && echo ok;; esac"
)


def wait_up(folder: Path, name: str) -> None:
    """Until systemd says running (or degraded) and eth0 has an IPv4 address."""
    deadline = time.monotonic() + 120
    while "ok" not in attach(folder, name, "sh", "-c", _UP).stdout:
        assert time.monotonic() < deadline, f"{name} did not come up"
        time.sleep(0.02)
