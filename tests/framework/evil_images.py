"""Disk images that lie: they name files of the host, servers on it, sizes nobody has, or another format than theirs."""

import contextlib
import io
import socket
import struct
import subprocess
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

EIB = 1 << 60
Make = Callable[[Path, Path, int], bytes]
"""(scratch folder, canary file, port of a listener) -> the image."""


def qemu_img(folder: Path, *argv: str) -> None:
    """Run qemu-img, unconfined, to make a test's own image."""
    subprocess.run(["qemu-img", *argv], cwd=folder, check=True, capture_output=True)


def qcow2(
    *,
    size: int = 1 << 20,
    version: int = 3,
    backing: bytes = b"",
    incompatible: int = 0,
    l1_size: int = 1,
    extensions: Sequence[tuple[int, bytes]] = (),
    padding: int = 4 * 65536,
) -> bytes:
    """A qcow2 header with empty tables behind it, whatever it says."""
    place = b"".join(
        struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8) for kind, data in (*extensions, (0, b""))
    )
    header_size = 104 if version == 3 else 72
    at = header_size + len(place) if backing else 0
    head = struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", version, at, len(backing), 16, size, 0, l1_size, 3 * 65536,
                       65536, 1, 0, 0)  # fmt: skip
    if version == 3:
        head += struct.pack(">QQQII", incompatible, 0, 0, 4, 104)
    return (head + place + backing).ljust(padding, b"\0")


def _made(name: str, *argv: str) -> Make:
    """What qemu-img makes of these arguments, in which CANARY and PORT are replaced."""

    def make(folder: Path, canary: Path, port: int) -> bytes:
        words = [word.replace("CANARY", str(canary)).replace("PORT", str(port)) for word in argv]
        qemu_img(folder, *words)
        return (folder / name).read_bytes()

    return make


def _vmdk_text(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return (
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n"
        f'createType="monolithicFlat"\nRW 1 FLAT "{canary}" 0\n'
    ).encode()


def vmdk(descriptor: str, *, capacity: int = 2048) -> bytes:
    """A sparse extent with a descriptor of the test's own."""
    head = struct.pack("<4sIIQQQQIQQQ?4sH", b"KDMV", 1, 3, capacity, 128, 1, 20, 512, 21, 26, 128, False, b"\n \r\n", 0)
    return (head.ljust(512, b"\0") + descriptor.encode().ljust(20 * 512, b"\0")).ljust(128 * 1024, b"\0")


def _vmdk_extents(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return vmdk(
        f'# Disk DescriptorFile\ncreateType="monolithicSparse"\nRW 2048 SPARSE "x.vmdk"\nRW 1 FLAT "{canary}" 0\n'
    )


def _vmdk_parent(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return vmdk(
        '# Disk DescriptorFile\nparentCID=12345678\ncreateType="monolithicSparse"\nRW 2048 SPARSE "x.vmdk"\n'
        f'parentFileNameHint="{canary}"\n'
    )


def _vmdk_hollow(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return vmdk(f'# Disk DescriptorFile\ncreateType="monolithicFlat"\nRW 1 FLAT "{canary}" 0\n', capacity=0)


def _ova(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        link = tarfile.TarInfo("disk.vmdk")
        link.type, link.linkname = tarfile.SYMTYPE, str(canary)
        archive.addfile(link)
    return buffer.getvalue()


def _qed(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    name = str(canary).encode()
    head = struct.pack("<4sIIIQQQQQII", b"QED\0", 65536, 4, 1, 1, 0, 0, 65536, 1 << 20, 72, len(name))
    return (head + name).ljust(8 * 65536, b"\0")


def _relative(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return qcow2(backing=b"../" * 16 + str(canary)[1:].encode())


def _external(folder: Path, canary: Path, port: int) -> bytes:
    del folder, port
    return qcow2(incompatible=0x04, extensions=[(0x44415441, str(canary).encode())])


@dataclass(frozen=True, slots=True)
class Evil:
    """An image: how it is made, the name that it is brought under, and a word of why it is refused."""

    make: Make
    name: str
    why: str


EVIL = {
    "backing, absolute": Evil(_made("x", "create", "-f", "qcow2", "-b", "CANARY", "-F", "raw", "x"), "a.qcow2",
                              "backing file"),
    "backing, relative": Evil(_relative, "a.qcow2", "backing file"),
    "backing, json": Evil(lambda _f, canary, _p: qcow2(
        backing=b'json:{"driver":"raw","file":{"driver":"file","filename":"%s"}}' % str(canary).encode()),
        "a.qcow2", "backing file"),
    "backing, nbd": Evil(lambda _f, _c, port: qcow2(backing=b"nbd://127.0.0.1:%d/x" % port), "a.qcow2", "backing file"),
    "backing, version 2": Evil(lambda _f, canary, _p: qcow2(version=2, backing=str(canary).encode()), "a.qcow2",
                               "backing file"),
    "data file": Evil(_external, "a.qcow2", "data file"),
    "data file, raw": Evil(_made("x", "create", "-f", "qcow2", "-o", "data_file=d,data_file_raw=on", "x", "1M"),
                           "a.qcow2", "data file"),
    "data file, extension alone": Evil(lambda _f, canary, _p: qcow2(extensions=[(0x44415441, str(canary).encode())]),
                                       "a.qcow2", "data file"),
    "vmdk of text": Evil(_vmdk_text, "a.vmdk", "holds its data itself"),
    "vmdk, two extents": Evil(_vmdk_extents, "a.vmdk", "several files"),
    "vmdk, parent": Evil(_vmdk_parent, "a.vmdk", "parent"),
    "vmdk, hollow": Evil(_vmdk_hollow, "a.vmdk", "other files"),
    "qed": Evil(_qed, "a.qcow2", "header of qed"),
    "qed as raw": Evil(_qed, "a.raw", "header of qed"),
    "one EiB": Evil(lambda _f, _c, _p: qcow2(size=EIB, l1_size=1 << 22), "a.qcow2", "more than a disk|impossible"),
    "one EiB, large clusters": Evil(lambda _f, _c, _p: qcow2(size=EIB).replace(
        struct.pack(">I", 16), struct.pack(">I", 21), 1), "a.qcow2", "more than a disk|impossible"),
    "table bomb": Evil(lambda _f, _c, _p: qcow2(l1_size=0x7FFFFFFF), "a.qcow2", "impossible size"),
    "table larger than the file": Evil(lambda _f, _c, _p: qcow2(l1_size=1 << 22), "a.qcow2", "larger than itself"),
    "qcow2 as raw": Evil(lambda _f, canary, _p: qcow2(backing=str(canary).encode()), "a.raw", "header of qcow2"),
    "qcow2 as img": Evil(lambda _f, canary, _p: qcow2(backing=str(canary).encode()), "a.img", "header of qcow2"),
    "qcow2 as vmdk": Evil(lambda _f, canary, _p: qcow2(backing=str(canary).encode()), "a.vmdk", "header of qcow2"),
    "qcow2 as vdi": Evil(lambda _f, canary, _p: qcow2(backing=str(canary).encode()), "a.vdi", "header of qcow2"),
    "raw as qcow2": Evil(lambda _f, _c, _p: bytes(1 << 20), "a.qcow2", "not a qcow2"),
    "empty": Evil(lambda _f, _c, _p: b"", "a.raw", "empty"),
}  # fmt: skip
"""Images of disks; each is refused at every door."""

OVA = Evil(_ova, "a.ova", "OVA")
ISO = Evil(lambda _f, canary, _p: qcow2(backing=str(canary).encode()), "a.iso", "not an ISO image|header of qcow2")
ISO_HYBRID = Evil(
    lambda _f, canary, _p: (
        qcow2(backing=str(canary).encode())[:32769] + b"CD001" + qcow2(backing=str(canary).encode())[32774:]
    ),
    "a.iso",
    "header of qcow2",
)


@dataclass
class Listener:
    """A TCP port on loopback that counts who comes."""

    port: int
    seen: list[str] = field(default_factory=list)


@contextlib.contextmanager
def listener() -> Iterator[Listener]:
    """Listen for as long as the block takes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        found = Listener(server.getsockname()[1])
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, address = server.accept()
                    found.seen.append(str(address))
                    connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield found
        finally:
            ended.set()
            thread.join()
