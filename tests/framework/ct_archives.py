"""Containers' backups made by hand, in the form in which Proxmox VE writes them."""

import io
import tarfile
from collections.abc import Mapping

CONFIG = """\
#A shop
arch: amd64
features: nesting=1
hostname: shop
memory: 256
mp0: tank:subvol-105-disk-1,mp=/srv/data,backup=1,size=32M
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:04:4F:5E,ip=dhcp,type=veth
ostype: debian
rootfs: tank:subvol-105-disk-0,size=64M
unprivileged: 1
"""


def backup_tar(config: str | bytes | None = CONFIG, files: Mapping[str, str] | None = None, root: bytes = b"") -> bytes:
    """A backup: the configuration first, then `files`, then the members of the tar archive `root`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if config is not None:
            _add(archive, "./etc/vzdump/pct.conf", config)
        for name, content in {"./etc/os-release": "ID=debian\n", **(files or {})}.items():
            _add(archive, name, content)
        if root:
            with tarfile.open(fileobj=io.BytesIO(root)) as members:
                for member in members:
                    archive.addfile(member, members.extractfile(member) if member.isreg() else None)
    return buffer.getvalue()


def _add(archive: tarfile.TarFile, name: str, content: str | bytes) -> None:
    data = content.encode() if isinstance(content, str) else content
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o644
    archive.addfile(member, io.BytesIO(data))
