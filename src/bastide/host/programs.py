"""Which Debian package brings a program that a host may lack, so that whoever misses it can be told."""

import shutil
from collections.abc import Iterable

PACKAGES: dict[str, str] = {
    "blkdiscard": "util-linux",
    "btrfs": "btrfs-progs",
    "ceph-fuse": "ceph-fuse",
    "iscsiadm": "open-iscsi",
    "lvcreate": "lvm2",
    "lvs": "lvm2",
    "lzop": "lzop",
    "mkfs.btrfs": "btrfs-progs",
    "mkfs.xfs": "xfsprogs",
    "mount.ceph": "ceph-common",
    "mount.cifs": "cifs-utils",
    "mount.nfs": "nfs-common",
    "pigz": "pigz",
    "pvcreate": "lvm2",
    "pvs": "lvm2",
    "rbd": "ceph-common",
    "rsync": "rsync",
    "showmount": "nfs-common",
    "smartctl": "smartmontools",
    "smbclient": "smbclient",
    "vgcreate": "lvm2",
    "vgs": "lvm2",
    "zfs": "zfsutils-linux",
    "zpool": "zfsutils-linux",
}


def missing(program: str) -> str:
    """The sentence for a program that is not there."""
    package = PACKAGES.get(program)
    return f"{program} is not installed on this host" + (
        f": apt-get install {package}" if package is not None else "; see `bastide doctor`"
    )


def lacking(programs: Iterable[str]) -> list[str]:
    """Those of them that this host has not installed."""
    return sorted(program for program in programs if shutil.which(program) is None)
