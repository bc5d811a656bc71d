"""Templates that attack the host: bombs, escapes, device nodes, and links in the places that Bastide writes.

Attack classes 3 to 6: archive bombs, path traversal, links in a guest's root, and what members should not carry.
"""

import gzip
import io
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framework.evil import (
    Canary,
    archive,
    canary,
    header,
    member,
    nodes,
    put_template,
    raw,
    resident,
    root_of,
    try_create,
    volumes,
)
from framework.host import ApiFailure, Host, TaskFailed
from framework.patience import PATIENCE
from framework.roots import busybox_tar

pytestmark = pytest.mark.system

REG, DIR, SYM, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHR, BLK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 21, 0, 0, 0).decode("latin-1")  # cap_sys_admin+ep


@pytest.fixture(scope="module")
def base() -> bytes:
    """A good root file system."""
    return busybox_tar()


@pytest.fixture
def bird() -> Iterator[Canary]:
    """A canary that must be as it was when the test ends."""
    with canary() as made:
        yield made
        made.check()


Steps = Callable[[str], list[Callable[[tarfile.TarFile], None]]]
REFUSED: dict[str, Steps] = {
    "hard link to a host file": lambda away: [member("h", HARD, f"{away}/hosts"), member("h")],
    "hard link with dots": lambda away: [member("h", HARD, f"{'../' * 12}{away}/hosts"), member("h")],
    "character device": lambda _: [member("mem", CHR)],
    "block device": lambda _: [member("disk", BLK, devmajor=254, devminor=0)],
    "owner beyond the range": lambda _: [member("big", uid=65536 * 2, gid=65536 * 2)],
    "owner of the other kind": lambda _: [raw(header("neg", uid=b"\xff" * 8))],
    "size beyond everything": lambda _: [raw(header("eib", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7))],
    "negative size": lambda _: [raw(header("neg", size=b"\xff" * 11 + b"\x00")), raw(b"x" * 512)],
}
HARMLESS: dict[str, Steps] = {
    "absolute name": lambda away: [member(f"{away}/new"), member(f"{away}/hosts")],
    "dots": lambda away: [member(f"{'../' * 12}{away[1:]}/new"), member(f"a/../{'../' * 12}{away[1:]}/hosts")],
    "write through a link": lambda away: [member("d", SYM, away), member("d/new"), member("d/hosts")],
    "write through a file's link": lambda away: [member("f", SYM, f"{away}/hosts"), member("f")],
    "chain of links": lambda away: [
        member("e", SYM, "/"), member("f", SYM, f"e{away}"), member("f/new"), member("f/hosts"),
    ],
    "relative link": lambda away: [member("up", SYM, f"{'../' * 12}{away[1:]}"), member("up/new"), member("up/hosts")],
    "folder that becomes a link": lambda away: [member("x", DIR), member("x", SYM, away), member("x/new")],
    "link that becomes a folder": lambda away: [member("x", SYM, away), member("x", DIR), member("x/new")],
    "hard link to a link": lambda away: [member("l", SYM, f"{away}/hosts"), member("m", HARD, "l"), member("m")],
    "nodes in /dev": lambda _: [member("./dev/sda", BLK), member("dev/mem", CHR), member("./dev/kmem", CHR)],
    "setuid": lambda _: [member("su", mode=0o6777), member("folder", DIR, mode=0o7777)],
    "capability": lambda _: [member("cap", pax_headers={"SCHILY.xattr.security.capability": CAPABILITY})],
    "other attributes": lambda _: [
        member("x", pax_headers={"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.security.ima": "x"}),
    ],
    "newline in a name": lambda _: [member("a\nb"), member("c\r\n\x1b[31md"), member("--checkpoint-action=exec=id")],
    "the same name often": lambda _: [member("same", data=bytes([n])) for n in range(64)],
    "pipe": lambda _: [member("fifo", FIFO)],
    "the root itself": lambda _: [member(".", DIR, mode=0o7777), member("./", DIR, mode=0o777)],
    "long name": lambda away: [member("n" * 200 + "/../" * 40 + away[1:] + "/new", pax_headers={})],
    "path by header": lambda away: [member("plain", pax_headers={"path": f"{'../' * 12}{away[1:]}/new"})],
    "link by header": lambda away: [member("l", SYM, "x", pax_headers={"linkpath": away}), member("l/new")],
    "sparse": lambda _: [
        member("s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../../s",
                                 "GNU.sparse.realsize": str(1 << 40)}, data=b"1\n0\n1\n".ljust(512, b"\0") + b"x"),
    ],
}  # fmt: skip

NOT_WHOLE = {
    "dots", "write through a link", "chain of links", "relative link", "folder that becomes a link",
    "link that becomes a folder", "long name", "path by header", "link by header", "sparse",
}  # fmt: skip
"""What tar(1) cannot unpack as it stands, so that nothing of it is kept."""


def bases(host: Host) -> set[Path]:
    """What was unpacked for several guests to build on."""
    folder = host.root / "state/storage/.base"
    return set(folder.iterdir()) if folder.is_dir() else set()


def check_root(root: Path) -> None:
    """What every guest's root on the storage is."""
    assert nodes(root) == []
    assert root.parent.stat().st_mode & 0o077 == 0, "another user of the host reaches setuid programs"
    first = root.stat().st_uid
    for path in root.rglob("*"):
        found = path.lstat()
        assert 0 <= found.st_uid - first < 65536, path
        assert 0 <= found.st_gid - first < 65536, path


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_asks_for_the_host_is_refused(host: Host, base: bytes, bird: Canary, name: str) -> None:
    """ATTACKS 4 and 6. Without the guest's ids, under which tar(1) runs, a node would be made."""
    before = volumes(host)
    template = put_template(host, "evil", archive(base, *REFUSED[name](str(bird.folder))))
    vmid, told = try_create(host, template)
    assert vmid is None, told
    assert "archive" in told
    assert bird.secret not in told
    assert volumes(host) == before


@pytest.mark.parametrize("name", HARMLESS)
def test_an_archive_cannot_leave_its_root(host: Host, base: bytes, bird: Canary, name: str) -> None:
    """ATTACKS 4 and 6. Without `host/confine.py`'s root and ids, and tar(1)'s own care, the canary would be changed.

    What stands before and behind the evil members has arrived: if nothing were unpacked this would fail as well.
    """
    before, shared = volumes(host), bases(host)
    steps = [member("./srv/first", data=b"good"), *HARMLESS[name](str(bird.folder)), member("./srv/last", data=b"good")]
    vmid, told = try_create(host, put_template(host, "evil", archive(base, *steps)))
    assert bird.secret not in told
    if name in NOT_WHOLE:
        assert vmid is None
        assert volumes(host) == before
        return
    assert vmid is not None, told
    # A guest's own layer, and what lies below it.
    trees = [root_of(host, vmid), *bases(host) - shared]
    found = [tree / f"srv/{part}" for tree in trees for part in ("first", "last")]
    assert [file.read_text() for file in found if file.exists()] == ["good", "good"]
    for tree in trees:
        check_root(tree)
    host.wait(host.delete(host.path(vmid)))
    assert volumes(host) == before


@pytest.mark.parametrize("name", ["truncated", "altered", "plain", "text", "empty", "other compression"])
def test_an_archive_that_is_none_leaves_nothing(host: Host, base: bytes, name: str) -> None:
    """ATTACKS 4. Without the undoing of what was begun, a base or a volume would be left."""
    packed = gzip.compress(base, 1)
    broken = {
        "truncated": packed[: len(packed) // 2],
        "altered": packed[: len(packed) // 2] + bytes(64) + packed[len(packed) // 2 + 64 :],
        "plain": base,
        "text": gzip.compress(b"no archive" * 1000),
        "empty": b"",
        "other compression": b"\x28\xb5\x2f\xfd" + packed[4:],
    }
    before = volumes(host)
    vmid, told = try_create(host, put_template(host, "broken", broken[name], compress=False))
    assert vmid is None
    assert "archive" in told
    assert volumes(host) == before


PLACES = {
    "files": ("etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/shadow", "etc/localtime", "etc/timezone",
              "etc/network", "etc/systemd", "etc/machine-id", "etc/ssh", "etc/inittab", "root/.ssh", "var/lib/dbus"),
    "/etc": ("etc",),
    "/root": ("root",),
    "/sbin/init": ("sbin/init",),
    "/dev": ("dev",),
    "/proc": ("proc",),
    "/sys": ("sys",),
}  # fmt: skip
STYLES: dict[str, Callable[[str, str], str]] = {
    "absolute": lambda _place, away: away,
    "relative": lambda _place, away: "../" * 14 + away[1:],
    "chained": lambda _place, away: f"/srv/root{away}",
}


def linked(base: bytes, places: tuple[str, ...], style: str, away: str) -> bytes:
    """The base with links in these places instead of what is there."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(base)) as good, tarfile.open(fileobj=buffer, mode="w") as evil:
        for info in good:
            name = info.name.removeprefix("./")
            if not any(name == place or name.startswith(f"{place}/") for place in places):
                evil.addfile(info, good.extractfile(info) if info.isreg() else None)
        member("./srv/root", SYM, "../" * 14)(evil)
        for place in places:
            file = place.rpartition("/")[2]
            target = (
                f"{away}/{file}" if place.startswith("etc/") and file not in ("network", "systemd", "ssh") else away
            )
            member(f"./{place}", SYM, STYLES[style](place, target))(evil)
    return buffer.getvalue()


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("where", PLACES)
def test_links_in_a_template_lead_nowhere(host: Host, base: bytes, bird: Canary, where: str, style: str) -> None:
    """ATTACKS 5: links where the host writes. Without `RESOLVE_IN_ROOT` in `host/rootdir.py` this fails."""
    template = put_template(host, "links", linked(base, PLACES[where], style, str(bird.folder)))
    vmid, told = try_create(
        host, template, password="sesame-open", ssh_public_keys="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDx x@y",
        nameserver="192.0.2.53", searchdomain="evil.test", timezone="Europe/Paris",
        net0=f"name=eth0,bridge={host.bridge},ip=192.0.2.7/24",
    )  # fmt: skip
    assert bird.secret not in told
    if vmid is None:
        return
    try:
        host.act(vmid, "start")
    except TaskFailed as error:
        assert bird.secret not in str(error)  # noqa: PT017
    for place in PLACES[where]:
        for path in (f"/{place}", f"/{place}/hosts", f"/{place}/authorized_keys"):
            got = host.http.get(f"/bastide/guests/{vmid}/file", params={"path": path})
            assert bird.secret not in got.text
            host.http.put(f"/bastide/guests/{vmid}/file", params={"path": path}, content=b"pushed")
    # A later start writes names and addresses again, over what was pushed.
    try:
        host.put(host.path(vmid, "/config"), hostname="renamed", nameserver="192.0.2.54")
        host.act(vmid, "stop")
        host.act(vmid, "start")
    except (ApiFailure, TaskFailed) as error:
        assert bird.secret not in str(error)  # noqa: PT017
    host.wait(host.delete(host.path(vmid), force=1))


@pytest.mark.slow
def test_a_bomb_does_not_fill_the_host(host: Host, tmp_path: Path) -> None:
    """A small file that unpacks to 100 GiB."""
    head = header("zeros", size=b"\x80" + (100 << 30).to_bytes(11, "big"))
    file = host.root / "state/storage/template/cache/bomb_1_amd64.tar.zst"
    with file.open("wb") as sink:
        packer = subprocess.Popen(["zstd", "-q", "-1", "-c"], stdin=subprocess.PIPE, stdout=sink)
        assert packer.stdin is not None
        packer.stdin.write(head)
        zeros = bytes(1 << 20)
        for _ in range(4096):
            packer.stdin.write(zeros)
        packer.stdin.close()
        assert packer.wait() == 0
    before, began, memory = volumes(host), time.monotonic(), resident(host)
    vmid, told = try_create(host, "local:vztmpl/bomb_1_amd64.tar.zst")
    assert vmid is None
    assert "unpacks to more than" in told
    assert time.monotonic() - began < 30 * PATIENCE
    assert resident(host) - memory < 100 << 20
    assert volumes(host) == before


@pytest.mark.slow
def test_a_million_members_hold_up_nobody(host: Host, base: bytes) -> None:
    """ATTACKS 3: whatever becomes of them, others are answered and the daemon holds none of them."""
    memory = resident(host)
    block = b"".join(header(f"m/{number}") for number in range(1_000_000))
    vmid, _ = try_create(host, put_template(host, "million", archive(base, member("m", DIR), raw(block))))
    assert host.get("/version")
    assert resident(host) - memory < 100 << 20
    if vmid is not None:
        host.wait(host.delete(host.path(vmid)))
