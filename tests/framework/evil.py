"""What attacks need: a canary on the host that nothing may touch, archives that lie, and a place to put them."""

import gzip
import io
import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.host import ApiFailure, Host, TaskFailed

Add = Callable[..., None]

_HOST_FILES = (
    "/etc/passwd", "/etc/shadow", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/etc/localtime", "/bin/sh",
    "/sbin/init", "/root/.ssh/authorized_keys", "/usr/bin/tar", "/usr/bin/lxc-attach", "/usr/bin/lxc-start",
)  # fmt: skip
_NAMES = ("hosts", "hostname", "resolv.conf", "shadow", "passwd", "authorized_keys", "localtime", "timezone", "init",
          "null", "alpine-release", "interfaces")  # fmt: skip


class Canary:
    """A folder of the host's that everybody may write, so that nothing but confinement protects it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = secrets.token_hex(16)
        folder.chmod(0o777)
        for name in _NAMES:
            (folder / name).write_text(self.secret)
            (folder / name).chmod(0o666)
        self._before = self._look()

    def check(self) -> None:
        """Fail if the folder, or a well-known file of the host, is not as it was."""
        after = self._look()
        changed = sorted(key for key in self._before.keys() | after.keys() if self._before.get(key) != after.get(key))
        assert changed == []

    def _look(self) -> dict[str, object]:
        files = [self.folder, *self.folder.rglob("*"), *map(Path, _HOST_FILES)]
        return {str(file): _facts(file) for file in files if file.exists()}


def _facts(file: Path) -> object:
    found = file.stat()
    return (found.st_ino, found.st_nlink, found.st_mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns)


@contextmanager
def canary() -> Iterator[Canary]:
    """A canary where every user of the host can reach it."""
    folder = Path(tempfile.mkdtemp(prefix="bst-canary-", dir="/var/tmp"))
    try:
        yield Canary(folder)
    finally:
        shutil.rmtree(folder)


def archive(base: bytes, *steps: Callable[[tarfile.TarFile], None]) -> bytes:
    """A good archive with further members."""
    buffer = io.BytesIO(base)
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as tar:
        for step in steps:
            step(tar)
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", *, data: bytes = b"evil\n", **facts: object) -> (
    Callable[[tarfile.TarFile], None]
):  # fmt: skip
    """A step that adds one member; `facts` are attributes of its TarInfo."""

    def add(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname, info.mode = kind, link, 0o777
        info.size = len(data) if kind == tarfile.REGTYPE else 0
        info.devmajor, info.devminor = 1, 1
        for key, value in facts.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(data))

    return add


def raw(data: bytes) -> Callable[[tarfile.TarFile], None]:
    """A step that writes blocks as they are."""

    def add(tar: tarfile.TarFile) -> None:
        assert tar.fileobj is not None
        tar.fileobj.write(data)
        tar.offset += len(data)

    return add


def header(name: str, **fields: bytes) -> bytes:
    """A tar header whose fields (`size`, `uid`, `mode`) are the given bytes, with a right checksum."""
    block = bytearray(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT))
    places = {"mode": (100, 8), "uid": (108, 8), "gid": (116, 8), "size": (124, 12)}
    for field, value in fields.items():
        at, length = places[field]
        block[at : at + length] = value.ljust(length, b"\0")[:length]
    block[148:156] = b" " * 8
    block[148:156] = f"{sum(block):06o}\0 ".encode()
    return bytes(block)


def put_template(host: Host, name: str, data: bytes, *, compress: bool = True) -> str:
    """Put an archive among the templates of a host; returns its volume id."""
    file = host.root / "state/storage/template/cache" / f"{name}_1_amd64.tar.gz"
    file.write_bytes(gzip.compress(data, 1) if compress else data)
    return f"local:vztmpl/{file.name}"


def try_create(host: Host, template: str, **options: object) -> tuple[int | None, str]:
    """Make a container of a template: its vmid and log, or None and what was wrong."""
    vmid = host.new_vmid()
    # A size of 0 is a plain folder, whose content can be looked at.
    values = {"unprivileged": 1, "memory": 64, "hostname": f"e{vmid}", "rootfs": "local:0", **options}
    try:
        return vmid, host.wait(host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=template, **values))
    except (TaskFailed, ApiFailure) as error:
        return None, str(error)


def root_of(host: Host, vmid: int) -> Path:
    """Where a container's root file system lies on the storage."""
    return host.root / f"state/storage/images/{vmid}/vm-{vmid}-disk-0.subvol"


def volumes(host: Host) -> set[str]:
    """Every container's volumes."""
    rows = host.get(f"/nodes/{host.node}/storage/local/content")
    return {row["volid"] for row in rows if row["content"] in ("rootdir", "images")}


def guests(host: Host) -> set[int]:
    """Every guest's vmid."""
    return {row["vmid"] for row in host.get("/cluster/resources", type="vm")}


def resident(host: Host) -> int:
    """Bytes of memory that the daemon holds."""
    assert host.process is not None
    return int(Path(f"/proc/{host.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def nodes(root: Path) -> list[str]:
    """Device nodes in a tree."""
    found = []
    for folder, _, files in os.walk(root):
        paths = [Path(folder, file) for file in files]
        found += [str(path) for path in paths if path.is_block_device() or path.is_char_device()]
    return found
