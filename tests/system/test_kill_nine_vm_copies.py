"""kill -9 of the daemon while VMs are snapshotted, taken back, copied, made templates, moved, grown, put to sleep.

What the guests do is no matter, so that they have no system: those that have to run do so in their firmware.
"""

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bastide.base.units import parse_size
from framework.host import Host
from framework.sweeps import Act, Sweep, killed_after, look_whole

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]
LARGE, SMALL = 16 << 20, 1 << 20
CHANGED = 64 << 10
DISKS = {"scsi0": LARGE, "virtio0": SMALL}
DEVICES = {"scsi0": "scsi0", "virtio0": "/machine/peripheral/virtio0/virtio-backend"}
BUSY = re.compile(r"Migration status: (?!completed|cancelled|failed|none)\w")


@dataclass
class Subject:
    """A VM with a qcow2 and a raw disk, and files that hold what is on them at first and after `change`."""

    host: Host
    vmid: int
    first: dict[str, Path]
    later: dict[str, Path] = field(default_factory=dict)

    @classmethod
    def made(cls, host: Host, folder: Path, **options: Any) -> "Subject":
        first, later = {}, {}
        for key, size in DISKS.items():
            data = os.urandom(size - 512) + bytes(512)
            first[key], later[key] = folder / f"{key}.raw", folder / f"{key}.later.raw"
            # The firmware shall find nothing to start.
            first[key].write_bytes(bytes(512) + data[512:])
            later[key].write_bytes(b"\x42" * CHANGED + data[CHANGED:])
        vmid = host.create_vm(
            scsihw="virtio-scsi-pci",
            scsi0=f"local:0,import-from={first['scsi0']},format=qcow2",
            virtio0=f"local:0,import-from={first['virtio0']},format=raw",
            **options,
        )
        return cls(host, vmid, first, later)

    def path(self, rest: str = "") -> str:
        return self.host.path(self.vmid, rest)

    @property
    def config(self) -> dict[str, Any]:
        return dict(self.host.get(self.path("/config")))

    @property
    def status(self) -> str:
        return str(self.host.get(self.path("/status/current"))["qmpstatus"])

    def monitor(self, command: str) -> str:
        return str(self.host.post(self.path("/monitor"), command=command))

    def image(self, key: str) -> Path:
        return image_of(self.host, self.vmid, key)

    def change(self) -> None:
        """Write to the disks, and to the configuration."""
        self.host.put(self.path("/config"), tags="later")
        for key in DISKS:
            write = f"write -P 0x42 0 {CHANGED}"
            if self.status == "stopped":
                tool("qemu-io", "-f", form_of(self.image(key)), "-c", write, self.image(key))
            else:
                for command in (write, "flush"):
                    assert self.monitor(f'qemu-io -d {DEVICES[key]} "{command}"') == ""

    def is_back(self) -> bool:
        """Whether it is as it was at first: its disks and its configuration, or none of them."""
        back = "tags" not in self.config
        for key, files in (self.first if back else self.later).items():
            assert same(self.image(key), files), (key, back)
        return back

    def has(self, name: str) -> bool:
        """Whether it has a snapshot, with that of each disk, or without any."""
        listed = name in {row["name"] for row in self.host.get(self.path("/snapshot"))}
        for key in DISKS:
            assert (name in kept(self.image(key))) == listed, (key, listed)
        return listed

    def take(self, name: str, **options: Any) -> str:
        return str(self.host.post(self.path("/snapshot"), snapname=name, **options))

    def delete(self, name: str) -> str:
        return str(self.host.delete(self.path(f"/snapshot/{name}")))

    def roll_back(self, name: str) -> str:
        return str(self.host.post(self.path(f"/snapshot/{name}/rollback")))


def tool(*argv: str | Path) -> str:
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def form_of(image: Path) -> str:
    return image.suffix.removeprefix(".")


def image_of(host: Host, vmid: int, key: str) -> Path:
    volume = str(host.get(f"/nodes/{host.node}/qemu/{vmid}/config")[key]).partition(",")[0]
    return host.root / "state/storage/images" / "/".join(volume.partition(":")[2].split("/")[-2:])


def info(image: Path) -> dict[str, Any]:
    return dict(json.loads(tool("qemu-img", "info", "-U", "--output=json", "-f", form_of(image), image)))


def kept(image: Path) -> set[str]:
    """The snapshots of a volume."""
    if form_of(image) == "qcow2":
        return {one["name"] for one in info(image).get("snapshots", [])}
    folder = image.with_name(f"{image.name}.snapshots")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def same(image: Path, raw: Path) -> bool:
    """Whether an image holds what a raw file holds, and its tables are in order."""
    if form_of(image) == "qcow2":
        # 3: clusters that nothing uses, which a kill may leave.
        checked = subprocess.run(["qemu-img", "check", "-U", "-q", str(image)], check=False, capture_output=True)
        assert checked.returncode in (0, 3), checked
    argv = ["qemu-img", "compare", "-U", "-f", form_of(image), "-F", "raw", str(image), str(raw)]
    return subprocess.run(argv, check=False, stdout=subprocess.DEVNULL).returncode == 0


def going_on(*subjects: Subject) -> Callable[[], None]:
    """A look at running VMs: each is the same process in the same state, and nothing of it is being copied."""
    before = [current(each) for each in subjects]

    def look() -> None:
        for each, was in zip(subjects, before, strict=True):
            assert current(each) == was
            assert "No active jobs" in each.monitor("info block-jobs")
            assert not BUSY.search(each.monitor("info migrate"))

    return look


def current(subject: Subject) -> tuple[int, str]:
    found = subject.host.get(subject.path("/status/current"))
    return found["pid"], found["qmpstatus"]


@pytest.fixture
def bystander(own_host: Host) -> Subject:
    return Subject(own_host, own_host.create_vm(start=True, memory=32), {})


def test_snapshots_of_a_stopped_vm(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vm = own_host, Subject.made(own_host, tmp_path)
    sweep = Sweep(host, going_on(bystander))

    def forget() -> None:
        host.wait(vm.delete("one"))

    def taken() -> None:
        host.wait(vm.take("one"))

    sweep.over(Act("snapshot", lambda: vm.take("one"), lambda: vm.has("one"), forget), 5)
    sweep.over(Act("delete", lambda: vm.delete("one"), lambda: not vm.has("one"), prepare=taken), 4)
    taken()
    sweep.over(Act("rollback", lambda: vm.roll_back("one"), vm.is_back, prepare=vm.change), 5)
    forget()
    assert sweep.report() >= 14


@pytest.mark.slow
def test_snapshots_of_a_running_vm(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vm = own_host, Subject.made(own_host, tmp_path, start=True)
    sweep = Sweep(host, going_on(bystander, vm))

    def forget() -> None:
        host.wait(vm.delete("one"))

    def taken() -> None:
        host.wait(vm.take("one", vmstate=1))

    sweep.over(Act("snapshot", lambda: vm.take("one"), lambda: vm.has("one"), forget), 4)
    sweep.over(Act("with memory", lambda: vm.take("one", vmstate=1), lambda: vm.has("one"), forget), 8)
    sweep.over(Act("delete", lambda: vm.delete("one"), lambda: not vm.has("one"), prepare=taken), 4)
    assert vm.is_back()
    taken()

    def is_back() -> bool:
        back = vm.is_back()
        assert vm.status == "running" or back
        return back and vm.status == "running"

    sweep.check = going_on(bystander)
    sweep.over(Act("rollback", lambda: vm.roll_back("one"), is_back, prepare=vm.change), 8)
    assert sweep.report() >= 24


@pytest.mark.slow
def test_copies(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vm, template = own_host, Subject.made(own_host, tmp_path, start=True), own_host.new_vmid()
    copy = host.new_vmid()
    sweep = Sweep(host, going_on(bystander, vm))

    def clone(source: int, target: int, **options: Any) -> str:
        return str(host.post(f"/nodes/{host.node}/qemu/{source}/clone", newid=target, **options))

    def destroy(vmid: int) -> None:
        host.wait(host.delete(f"/nodes/{host.node}/qemu/{vmid}"))

    def is_whole(vmid: int) -> bool:
        assert not kept(vm.image("scsi0")) | kept(vm.image("virtio0"))
        if vmid not in {row["vmid"] for row in host.get(f"/nodes/{host.node}/qemu")}:
            return False
        assert all(same(image_of(host, vmid, key), vm.first[key]) for key in DISKS)
        return True

    def is_template() -> bool:
        assert is_whole(template)
        made = bool(host.get(f"/nodes/{host.node}/qemu/{template}/config").get("template"))
        assert all(image_of(host, template, key).name.startswith("base-") == made for key in DISKS)
        return made

    def make_template() -> str:
        return str(host.post(f"/nodes/{host.node}/qemu/{template}/template"))

    def cloned() -> None:
        host.wait(clone(vm.vmid, template))

    def gone() -> None:
        destroy(copy)

    sweep.over(Act("of a running VM", lambda: clone(vm.vmid, copy), lambda: is_whole(copy), gone), 5)
    sweep.over(Act("template", make_template, is_template, lambda: destroy(template), cloned), 4)
    cloned()
    host.wait(make_template())
    sweep.over(Act("linked", lambda: clone(template, copy), lambda: is_whole(copy), gone), 4)
    sweep.over(Act("full", lambda: clone(template, copy, full=1), lambda: is_whole(copy), gone), 4)
    assert sweep.report() >= 17


def test_disks(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vm = own_host, Subject.made(own_host, tmp_path)
    sweep, sizes = Sweep(host, going_on(bystander)), {"now": LARGE}

    def move(form: str) -> str:
        return str(host.post(vm.path("/move_disk"), disk="scsi0", format=form, delete=1))

    def move_back() -> None:
        host.wait(move("qcow2"))

    def is_moved() -> bool:
        assert same(vm.image("scsi0"), vm.first["scsi0"])
        return form_of(vm.image("scsi0")) == "raw"

    def more() -> None:
        sizes["now"] += SMALL

    def resize() -> str:
        return str(host.put(vm.path("/resize"), disk="scsi0", size=sizes["now"]))

    def is_large() -> bool:
        if parse_size(vm.config["scsi0"].partition("size=")[2].partition(",")[0]) != sizes["now"]:
            return False
        assert info(vm.image("scsi0"))["virtual-size"] == sizes["now"]
        return True

    sweep.over(Act("move", lambda: move("raw"), is_moved, move_back), 5)
    sweep.over(Act("resize", resize, is_large, prepare=more), 4)
    host.act(vm.vmid, "start")
    sweep.check = going_on(bystander, vm)
    sweep.over(Act("resize while it runs", resize, is_large, prepare=more), 4)
    assert same(vm.image("scsi0"), vm.first["scsi0"])
    assert sweep.report() >= 13


def test_import_from_a_base(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vmid = own_host, own_host.new_vmid()
    raw, image = tmp_path / "disk.raw", host.root / "state/storage/import/disk.qcow2"
    raw.write_bytes(os.urandom(LARGE))
    tool("qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, tmp_path / "disk.qcow2")

    def begin() -> str:
        scsi0 = "local:0,import-from=local:import/disk.qcow2,format=qcow2"
        return str(host.post(f"/nodes/{host.node}/qemu", vmid=vmid, memory=32, scsi0=scsi0))

    def is_made() -> bool:
        if vmid not in {row["vmid"] for row in host.get(f"/nodes/{host.node}/qemu")}:
            return False
        assert same(image_of(host, vmid, "scsi0"), raw)
        assert "backing-filename" in info(image_of(host, vmid, "scsi0"))
        return True

    def forget() -> None:
        host.wait(host.delete(f"/nodes/{host.node}/qemu/{vmid}"))
        if upid := host.delete(f"/nodes/{host.node}/storage/local/content/local:import/disk.qcow2"):
            host.wait(upid)

    def upload() -> None:
        shutil.copy(tmp_path / "disk.qcow2", image)

    sweep = Sweep(host, going_on(bystander))
    sweep.over(Act("import", begin, is_made, forget, upload), 6)
    assert sweep.report() >= 6


def test_suspending_to_disk(own_host: Host, bystander: Subject, tmp_path: Path) -> None:
    host, vm = own_host, Subject.made(own_host, tmp_path, start=True, memory=128)
    look, points, asleep = going_on(bystander), 6, 0

    def suspend() -> str:
        return str(host.post(vm.path("/status/suspend"), todisk=1))

    began = time.monotonic()
    host.wait(suspend())
    length = time.monotonic() - began
    host.act(vm.vmid, "start")
    for point in range(points):
        before = current(vm)
        killed_after(host, length * point / points, suspend)
        look()
        if vm.config.get("lock") == "suspended":
            asleep += 1
            assert vm.status == "stopped"
            host.act(vm.vmid, "start")
        else:
            assert current(vm) == before
        going_on(vm)()
        time.sleep(0.5)
        assert vm.status == "running", "it goes on running"
        look_whole(host)
    assert asleep < points
    host.wait(suspend())
