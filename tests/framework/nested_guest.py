"""A small Linux for a VM within the lab: Debian's kernel and busybox on a CD-ROM that a BIOS boots.

Run in the lab: `python nested_guest.py TARGET`. The guest binds the driver of a passed network card (e1000e), asks for
an address, and tells over and over on its serial port: `NIC <hardware address> <driver> <IPv4 address or none>`.
"""

import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pycdlib

DRIVER = "e1000e"
LOADER = Path("/usr/lib/ISOLINUX/isolinux.bin")
LIBRARY = Path("/usr/lib/syslinux/modules/bios/ldlinux.c32")
MENU = """\
default linux
serial 0 115200
prompt 0
label linux
  kernel /boot/vmlinuz
  append initrd=/boot/initrd console=ttyS0,115200 quiet mitigations=off cryptomgr.notests panic=1
"""
INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done
for link in /sys/class/net/*; do
    [ -e "$link/device/driver" ] && card=${link##*/}
done
ip link set "$card" up
udhcpc -i "$card" -n -q -t 20 -s /lease
while :; do
    driver=$(readlink "/sys/class/net/$card/device/driver")
    echo "NIC $(cat "/sys/class/net/$card/address") ${driver##*/} $(cat /address 2>/dev/null || echo none)"
    sleep 3
done
"""
LEASE = """\
#!/bin/busybox sh
[ "$1" != bound ] || echo "$ip" >/address
"""


def modules() -> list[Path]:
    """The driver's modules, each after those it needs."""
    told = subprocess.run(["modprobe", "--show-depends", DRIVER], capture_output=True, text=True, check=True).stdout
    return [Path(line.split()[1]) for line in told.splitlines() if line.startswith("insmod ")]


def initramfs() -> bytes:
    """The guest's first and only file system."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder in ("bin", "dev", "proc", "sys", "modules"):
            (root / folder).mkdir()
        shutil.copy("/bin/busybox", root / "bin/busybox")
        found = modules()
        for module in found:
            shutil.copy(module, root / "modules" / module.name)
        (root / "modules/order").write_text("\n".join(module.name for module in found) + "\n")
        for file, text in (("init", INIT), ("lease", LEASE)):
            (root / file).write_text(text)
            (root / file).chmod(0o755)
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        packed = subprocess.run(
            ["busybox", "cpio", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=subprocess.PIPE, check=True
        )
        return packed.stdout


def write_iso(target: Path) -> None:
    """Make the CD-ROM's image."""
    (kernel,) = Path("/boot").glob("vmlinuz-*")
    files = {
        "/ISOLINUX/ISOLINUX.BIN;1": LOADER.read_bytes(),
        "/ISOLINUX/LDLINUX.C32;1": LIBRARY.read_bytes(),
        "/ISOLINUX/ISOLINUX.CFG;1": MENU.encode(),
        "/BOOT/VMLINUZ.;1": kernel.read_bytes(),
        "/BOOT/INITRD.;1": initramfs(),
    }
    disc = pycdlib.PyCdlib()
    disc.new(interchange_level=3)
    for folder in ("/ISOLINUX", "/BOOT"):
        disc.add_directory(folder)
    for path, content in files.items():
        disc.add_fp(io.BytesIO(content), len(content), path)
    disc.add_eltorito(
        "/ISOLINUX/ISOLINUX.BIN;1", bootcatfile="/ISOLINUX/BOOT.CAT;1", boot_load_size=4, boot_info_table=True
    )
    disc.write(str(target))
    disc.close()


if __name__ == "__main__":
    write_iso(Path(sys.argv[1]))
