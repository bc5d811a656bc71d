"""A virtual Debian that is a host which this machine need not be: systemd, cgroup v2, AppArmor and an IOMMU.

    with Lab.resumed() as lab:
        lab.sync()
        lab.run("systemctl", "is-system-running")

Its disk is made once from this machine's APT sources and kept in /var/cache/bastide-tests with a snapshot of the booted
system, which takes seconds to resume. Each resumed lab works on a copy of the disk. It has two network cards (a
virtio one that leads to this program alone, an e1000e one with an IOMMU group of its own) and an empty second disk.

By hand, from the checkout:

    .venv/bin/python tests/framework/lab.py                 make the disk, if there is none yet
    .venv/bin/python tests/framework/lab.py COMMAND ...     resume, bring the checkout in, run the command line, end

LAB_ACCEL=kvm asks for KVM, which is never used by itself.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path("/var/cache/bastide-tests")
INSIDE = "/opt/bastide"
SNAPSHOT = "ready"
LAST = "extra.qcow2"
PASSED_MAC = "52:54:00:12:34:99"
MEMORY = "3G"
BOOT_SECONDS = 1800
MACHINE = (
    "linux-image-amd64", "initramfs-tools", "systemd", "systemd-sysv", "systemd-resolved", "udev", "dbus", "apparmor",
    "openssh-server", "kmod", "procps", "iputils-ping", "uidmap", "git", "pci.ids", "lvm2", "thin-provisioning-tools",
    "isolinux", "syslinux-common", "nfs-kernel-server", "nfs-common", "samba", "smbclient", "cifs-utils", "tgt",
    "open-iscsi",
)  # fmt: skip
NETWORK = "[Match]\nDriver=virtio_net\n[Network]\nDHCP=ipv4\n"
# An emulator that gets little time would fail the kernel's test of its timer, which ends in a panic.
KERNEL = "root=/dev/vda rw console=ttyS0 net.ifnames=0 intel_iommu=on mitigations=off cryptomgr.notests no_timer_check"
FILES = {
    "etc/systemd/network/10-lab.network": NETWORK,
    "etc/hostname": "lab\n",
    "etc/hosts": "127.0.0.1 localhost\n127.0.1.1 lab\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
}
FAST_INITRD = 'mkdir -p "$1/etc/initramfs-tools/conf.d" && echo COMPRESSLEVEL=1 >"$1/etc/initramfs-tools/conf.d/fast"'
ENABLED = ("systemd-networkd", "systemd-resolved", "ssh", "lxcfs")
MASKED = ("lxc-net.service", "apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "man-db.timer")
SYNCED = (
    "bastide", "src", "packaging", "tests", "pyproject.toml", "requirements.txt", "requirements-test.txt", "LICENSE",
    "README.md",
)  # fmt: skip


class Lab:
    """A running lab. `folder` holds its disk, sockets and logs; commands go through ssh."""

    def __init__(self, image: Path, folder: Path) -> None:
        self.image = image
        self.folder = folder
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @classmethod
    @contextlib.contextmanager
    def resumed(cls) -> Iterator["Lab"]:
        """A lab that answers, on a disk of its own; nothing of it is left at the end."""
        image = built()
        folder = Path(tempfile.mkdtemp(prefix="lab-", dir="/var/tmp"))
        lab = cls(image, folder)
        try:
            for disk in ("disk.qcow2", "extra.qcow2"):
                subprocess.run(["cp", "--reflink=auto", image / disk, folder / disk], check=True)
            lab.boot("-loadvm", SNAPSHOT)
            lab.run("date", "--set", f"@{int(time.time())}")
            yield lab
        finally:
            lab.end()
            shutil.rmtree(folder, ignore_errors=True)

    def boot(self, *more: str) -> None:
        """Start QEMU and wait until ssh answers. Raises RuntimeError with the end of the serial console."""
        with (self.folder / "qemu.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*_command(self.image, self.folder, self.port), *more],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + BOOT_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the lab's QEMU died: {(self.folder / 'qemu.log').read_text()}")
            if self.run("true", check=False).returncode == 0:
                return
            time.sleep(1)
        raise RuntimeError(f"the lab does not answer:\n{self.log()}")

    def end(self) -> None:
        """End it as a power cut does."""
        subprocess.run([*self._ssh(), "-O", "exit", "root@127.0.0.1"], capture_output=True, check=False)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def log(self) -> str:
        """The end of its serial console."""
        serial = self.folder / "serial"
        return serial.read_text(errors="replace")[-8000:] if serial.exists() else ""

    def run(
        self, *argv: str, check: bool = True, seconds: float = 600, stdin: bytes | None = None, cwd: str = "/root"
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the lab as root. With `check`, a failure raises AssertionError with its output."""
        line = f"cd {shlex.quote(cwd)} && exec {shlex.join(argv)}"
        done = subprocess.run(
            [*self._ssh(), "root@127.0.0.1", line],
            input=stdin or b"",
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        out, err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        if check and done.returncode != 0:
            raise AssertionError(f"{shlex.join(argv)} in the lab: exit {done.returncode}\n{out}{err}")
        return subprocess.CompletedProcess(argv, done.returncode, out, err)

    def push(self, source: Path, target: str) -> None:
        """Bring a file in."""
        self.run("dd", f"of={target}", "bs=1M", "status=none", stdin=source.read_bytes())

    def sync(self) -> None:
        """Bring the checkout's program, environment and tests in, as they are now."""
        self._bring(*SYNCED)
        stamp = _environment()
        if self.run("cat", f"{INSIDE}/.venv/lab", check=False).stdout != stamp:
            self.run("rm", "-rf", f"{INSIDE}/.venv")
            self._bring(".venv")
            self.run("dd", f"of={INSIDE}/.venv/lab", "status=none", stdin=stamp.encode())

    def _bring(self, *names: str) -> None:
        packed = ["tar", "-C", str(REPOSITORY), "--exclude=__pycache__", "--zstd", "-cf", "-", *names]
        with subprocess.Popen(packed, stdout=subprocess.PIPE) as tar:
            line = shlex.join(["tar", "-C", INSIDE, "--zstd", "-xf", "-"])
            subprocess.run([*self._ssh(), "root@127.0.0.1", line], stdin=tar.stdout, check=True, timeout=BOOT_SECONDS)

    def monitor(self, command: str) -> str:
        """Run a command of QEMU's human monitor; returns what it says."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(BOOT_SECONDS)
            link.connect(str(self.folder / "qmp"))
            file = link.makefile("rwb")
            file.readline()
            _ask(file, "qmp_capabilities")
            return str(_ask(file, "human-monitor-command", **{"command-line": command}))

    def _ssh(self) -> list[str]:
        options = {
            "StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR",
            "ConnectTimeout": "60", "ControlMaster": "auto", "ControlPath": str(self.folder / "ssh"),
            "ControlPersist": "600",
        }  # fmt: skip
        flags = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.image / "key"), "-p", str(self.port), *flags]


def built() -> Path:
    """The folder with the disk, kernel and key of the lab, made if this machine has none yet (some minutes, root)."""
    target = CACHE / f"lab-{_key()}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lab.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.exists():
            partial = CACHE / f"{target.name}.partial"
            # A boot that took too long costs no second making.
            if not (partial / LAST).exists():
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                _make_disk(partial)
            _save_ready(partial)
            partial.rename(target)
            for other in CACHE.glob("lab-*"):
                if other != target:
                    shutil.rmtree(other)
    return target


def _packages() -> list[str]:
    """The machine's own packages, and those that the launcher would bring."""
    wanted = re.findall(r"\bwant ([a-z0-9.+-]+) ", (REPOSITORY / "bastide").read_text())
    return sorted({*MACHINE, *wanted})


def _key() -> str:
    """What the disk depends on; the checkout is brought in after each resume."""
    return hashlib.sha256(repr((_packages(), FILES, ENABLED, MASKED, KERNEL, MEMORY)).encode()).hexdigest()[:12]


def _environment() -> str:
    """What the environment of the checkout depends on."""
    locks = [(REPOSITORY / name).read_bytes() for name in ("requirements.txt", "requirements-test.txt")]
    return hashlib.sha256(b"".join(locks)).hexdigest()


def _make_disk(folder: Path) -> None:
    root = folder / "root"
    suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    sources = sources if sources.exists() else Path("/etc/apt/sources.list")
    _call("nice", "mmdebstrap", "--mode=root", "--variant=apt", f"--include={','.join(_packages())}",
          f"--essential-hook={FAST_INITRD}", "--format=directory",
          "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
          suite, str(root), str(sources))  # fmt: skip
    try:
        _furnish(root, folder)
        shutil.copy(next((root / "boot").glob("vmlinuz-*")), folder / "vmlinuz")
        shutil.copy(next((root / "boot").glob("initrd.img-*")), folder / "initrd")
        raw = folder / "disk.raw"
        with raw.open("wb") as file:
            file.truncate(16 << 30)
        _call("mkfs.ext4", "-q", "-d", str(root), str(raw))
    finally:
        shutil.rmtree(root)
    _call("qemu-img", "convert", "-f", "raw", "-O", "qcow2", str(raw), str(folder / "disk.qcow2"))
    raw.unlink()
    _call("qemu-img", "create", "-q", "-f", "qcow2", str(folder / LAST), "4G")


def _furnish(root: Path, folder: Path) -> None:
    for name, text in FILES.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    inside = root / INSIDE.lstrip("/")
    inside.mkdir(parents=True)
    shutil.copytree(REPOSITORY / ".venv", inside / ".venv", symlinks=True)
    (inside / ".venv/lab").write_text(_environment())
    # What the tests build once on a machine need not be built again in an emulated one.
    for template in CACHE.glob("debian-12*"):
        (root / "var/cache/bastide-tests").mkdir(exist_ok=True)
        shutil.copy2(template, root / "var/cache/bastide-tests")
    _call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "key"))
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    shutil.copy(folder / "key.pub", root / "root/.ssh/authorized_keys")
    _call("ssh-keygen", "-A", "-f", str(root), stdout=subprocess.DEVNULL)
    _call("chroot", str(root), "systemctl", "-q", "enable", *ENABLED)
    _call("chroot", str(root), "systemctl", "-q", "mask", *MASKED)
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("../run/systemd/resolve/stub-resolv.conf")


def _save_ready(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/var/tmp") as work:
        for disk in ("disk.qcow2", "extra.qcow2"):
            (Path(work) / disk).symlink_to(folder / disk)
        lab = Lab(folder, Path(work))
        try:
            lab.boot()
            lab.run("systemctl", "is-system-running", "--wait", check=False)
            lab.run("sync")
            said = lab.monitor(f"savevm {SNAPSHOT}")
            if said.strip():
                raise RuntimeError(f"the lab cannot be saved: {said}")
            lab.monitor("quit")
            assert lab.process is not None
            lab.process.wait(60)
        finally:
            lab.end()


def _command(image: Path, folder: Path, port: int) -> list[str]:
    accel = os.environ.get("LAB_ACCEL", "tcg,thread=multi,tb-size=256")
    drives = [
        word
        for disk, node in (("disk", "vda"), ("extra", "vdb"))
        for word in (
            "-blockdev", f"driver=file,node-name={disk},cache.no-flush=on,filename={folder / disk}.qcow2",
            "-blockdev", f"driver=qcow2,node-name={node},cache.no-flush=on,file={disk}",
            "-device", f"virtio-blk-pci,drive={node}",
        )
    ]  # fmt: skip
    return [
        "nice", "qemu-system-x86_64", "-nodefaults", "-machine", "q35,kernel-irqchip=split", "-accel", accel,
        "-device", "intel-iommu,intremap=on,caching-mode=on", "-cpu", "max", "-smp", "2", "-m", MEMORY,
        "-display", "none",
        "-kernel", str(image / "vmlinuz"), "-initrd", str(image / "initrd"), "-append", KERNEL,
        "-serial", f"file:{folder / 'serial'}", "-qmp", f"unix:{folder / 'qmp'},server=on,wait=off",
        *drives,
        "-netdev", f"user,id=lab,hostfwd=tcp:127.0.0.1:{port}-:22", "-device", "virtio-net-pci,netdev=lab",
        "-netdev", "user,id=passed,restrict=on", "-device", f"e1000e,netdev=passed,mac={PASSED_MAC}",
        "-device", "virtio-rng-pci",
    ]  # fmt: skip


def _ask(file: Any, command: str, **arguments: Any) -> Any:
    file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
    file.flush()
    while line := file.readline():
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{command}: {answer['error']['desc']}")
        if "return" in answer:
            return answer["return"]
    return ""  # `quit` may end the connection before it is answered


def _call(*argv: str, **options: Any) -> None:
    subprocess.run(argv, check=True, **options)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def main(argv: Sequence[str]) -> int:
    """Resume a lab, run a command line in the checkout there, end it. Without one, only the disk is made."""
    if not argv:
        sys.stdout.write(f"{built()}\n")
        return 0
    with Lab.resumed() as lab:
        lab.sync()
        line = f"cd {INSIDE} && exec {shlex.join(argv)}"
        return subprocess.run([*lab._ssh(), "-t", "root@127.0.0.1", line], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
