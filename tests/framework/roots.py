"""Root file systems for tests of the container engine: a tiny busybox one, and a real Debian."""

import fcntl
import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

CACHE = Path("/var/cache/bastide-tests")
_APPLETS = (
    "sh", "cat", "ls", "id", "sleep", "true", "false", "kill", "mount", "umount", "touch", "ip", "ps", "stty",
    "env", "pwd", "mkdir", "ln", "rm", "mv", "dd", "readlink", "hostname", "mknod", "echo", "test", "getty",
    "reboot", "poweroff", "halt", "chmod", "wc", "cp", "stat",
)  # fmt: skip
_INITTAB = "::sysinit:/bin/true\n::shutdown:/bin/true\n"


def busybox_tar() -> bytes:
    """A root of one static program, as a tar archive. Boots in milliseconds."""
    program = Path("/usr/bin/busybox" if os.access("/usr/bin/busybox", os.X_OK) else "/bin/busybox").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, kind: bytes, content: bytes = b"", mode: int = 0o755, link: str = "") -> None:
            member = tarfile.TarInfo(f"./{name}")
            member.type, member.mode, member.size, member.linkname = kind, mode, len(content), link
            archive.addfile(member, io.BytesIO(content))

        for folder in ("bin", "sbin", "etc", "dev", "proc", "sys", "run", "root", "tmp", "srv", "var", "var/lib"):
            add(folder, tarfile.DIRTYPE, mode=0o1777 if folder == "tmp" else 0o755)
        add("bin/busybox", tarfile.REGTYPE, program)
        for applet in _APPLETS:
            add(f"bin/{applet}", tarfile.SYMTYPE, link="busybox")
        add("sbin/init", tarfile.SYMTYPE, link="/bin/busybox")
        add("etc/inittab", tarfile.REGTYPE, _INITTAB.encode(), 0o644)
        add("etc/passwd", tarfile.REGTYPE, b"root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/srv:/bin/sh\n", 0o644)
        add("etc/shadow", tarfile.REGTYPE, b"root:*:1:0:99999:7:::\n", 0o640)
        add("etc/alpine-release", tarfile.REGTYPE, b"3.20.0\n", 0o644)
        add("bin/setuid", tarfile.REGTYPE, program, 0o4755)
    return buffer.getvalue()


def debian_tar() -> Path:
    """A Debian 12 root with systemd, ifupdown and a DHCP client as a tar file; made once a machine."""
    CACHE.mkdir(parents=True, exist_ok=True)
    file = CACHE / "engine-debian-12.tar"
    with open(CACHE / "engine.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            partial = file.with_name("engine-partial.tar")
            include = "systemd,systemd-sysv,ifupdown,isc-dhcp-client,iproute2,openssh-server"
            subprocess.run(
                ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={include}", "bookworm", str(partial)],
                check=True,
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            )
            os.replace(partial, file)
    return file


def remove_tree(path: Path) -> None:
    """Remove a folder, but never through a mount that was left below it."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    left = [mount for mount in mounts if Path(mount).is_relative_to(path)]
    assert not left, f"still mounted: {left}"
    shutil.rmtree(path)
