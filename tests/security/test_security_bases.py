"""What many guests share must not be any guest's to change: bases of VMs and containers, against real guests."""

import os
import subprocess
from pathlib import Path

import pytest

from framework.host import Host

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]


def storage(host: Host) -> Path:
    return host.root / "state/storage"


def fingerprint(top: Path) -> dict[str, tuple[int, ...]]:
    """What lies at and below a path; any write, and any change of owners or modes, shows in a ctime."""
    found = {}
    for path in [top, *top.rglob("*")]:
        stat = path.lstat()
        found[str(path.relative_to(top))] = (
            stat.st_size,
            stat.st_uid,
            stat.st_mode,
            stat.st_mtime_ns,
            stat.st_ctime_ns,
        )
    return found


def qemu_files(host: Host, vmid: int) -> dict[Path, bool]:
    """The files of the host's storage that a VM's QEMU holds, and whether it may write to each."""
    pid = host.get(host.path(vmid, "/status/current"))["pid"]
    held = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        target = Path(os.readlink(entry))
        if target.is_relative_to(storage(host)):
            info = Path(f"/proc/{pid}/fdinfo/{entry.name}").read_text()
            flags = next(int(line.split()[1], 8) for line in info.splitlines() if line.startswith("flags:"))
            held[target] = held.get(target, False) or flags & os.O_ACCMODE != os.O_RDONLY
    return held


def template(host: Host, **options: object) -> int:
    vmid = host.create_vm(**options)
    host.wait(host.post(host.path(vmid, "/template")))
    return vmid


def linked(host: Host, vmid: int) -> int:
    """A linked clone of a VM."""
    clone = host.new_vmid()
    host._vms.add(clone)
    host.wait(host.post(host.path(vmid, "/clone"), newid=clone, full=0))
    return clone


def test_no_vm_can_write_to_what_it_builds_on(host: Host) -> None:
    """Neither a linked clone nor a disk of an imported image. Defence: bases are handed over read-only."""
    image = storage(host) / "import/shared.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    mould = template(host, scsi0="local:1,format=qcow2")
    clone = linked(host, mould)
    imported = host.create_vm(scsi0="local:0,import-from=local:import/shared.qcow2,format=qcow2")
    bases = [path for path in storage(host).rglob("*") if path.is_file() and (
        path.name.startswith(f"base-{mould}-") or path.parent.name == ".base")]  # fmt: skip
    assert bases, "there is something to share"
    before = {path: fingerprint(path) for path in bases}
    for vmid in (clone, imported):
        host.act(vmid, "start")
        held = qemu_files(host, vmid)
        assert any(held.values()), "its own disk"
        assert not [path for path, writes in held.items() if writes and str(vmid) not in path.name]
        assert all(not held[path] for path in held.keys() & before.keys())
        host.act(vmid, "stop")
    assert {path: fingerprint(path) for path in bases} == before
    image.unlink()


def test_no_container_can_write_to_what_it_builds_on(host: Host) -> None:
    """Root in one clone spoils all it finds; its template and another clone have what they had."""
    mould = host.create(memory=128, rootfs="local:1")
    host.wait(host.post(host.path(mould, "/template")))
    clones = [host.new_vmid(), host.new_vmid()]
    for vmid in clones:
        host.wait(host.post(host.path(mould, "/clone"), newid=vmid))
    shared = [*(storage(host) / "images" / str(mould)).glob("base-*"), *(storage(host) / ".base").iterdir()]
    assert shared
    before = {path: fingerprint(path) for path in shared}
    first, second = clones
    host.act(first, "start")
    spoil = (
        "for f in /etc/passwd /etc/os-release /bin/true /root/.bashrc; do echo spoilt >$f; done; rm -rf /usr/share/doc;"
        "chown 0:0 -R /var/lib; mount -o remount,rw / ; mount -o remount,lowerdir=/tmp / ; grep ' / ' /proc/mounts;"
        "for d in /dev/loop* /dev/sd* /dev/vd* /dev/nvme*; do echo x >$d; done; losetup -a; sync; true"
    )
    host.execute(first, "sh", "-c", spoil, check=False)
    assert host.execute(first, "cat", "/etc/os-release").strip() == "spoilt"
    host.act(first, "stop")
    assert {path: fingerprint(path) for path in shared} == before
    host.act(second, "start")
    assert "Debian" in host.execute(second, "cat", "/etc/os-release")
    host.act(second, "stop")
    for vmid in (*clones, mould):
        host.wait(host.delete(host.path(vmid)))
