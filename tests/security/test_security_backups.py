"""Backups that attack the host: archives that lead out, bombs, and configurations that ask for what is others'.

All go through the real restore. Whatever becomes of one, the canary is as it was, no volume and no guest is left of
what failed, and the daemon is the one that it was.
"""

import gzip
import hashlib
import io
import secrets
import struct
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from framework.ct_archives import backup_tar
from framework.evil import Canary, canary, header, member, nodes, raw, resident
from framework.host import Host
from framework.patience import PATIENCE
from framework.restores import Target
from framework.roots import busybox_tar
from framework.vma_files import vma

pytestmark = pytest.mark.system

REG, DIR, SYM, HARD = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE
CHR, BLK, FIFO = tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE
PLAIN = "arch: amd64\nhostname: shop\nmemory: 64\nostype: alpine\nrootfs: tank:subvol-105-disk-0\nunprivileged: 1\n"
"""A volume without a size is a folder, which can be looked at."""

Step = Callable[[tarfile.TarFile], None]


@pytest.fixture
def target(host: Host) -> Iterator[Target]:
    made = Target(host)
    with canary() as bird:
        made.bird = bird  # type: ignore[attr-defined]
        yield made
        bird.check()
    made.check()


@pytest.fixture
def bird(target: Target) -> Canary:
    found: Canary = target.bird  # type: ignore[attr-defined]
    return found


@pytest.fixture(scope="module")
def anna(host: Host) -> Iterator[httpx.Client]:
    """Somebody who may make guests here, and is not root."""
    host.post("/access/users", userid="anna@pve")
    for path, role in {"/vms": "PVEVMAdmin", "/storage/local": "PVEDatastoreUser", "/sdn": "PVESDNUser"}.items():
        host.put("/access/acl", path=path, users="anna@pve", roles=role)
    made = host.post("/access/users/anna@pve/token/t", privsep=0)
    with httpx.Client(base_url=f"https://127.0.0.1:{host.port}/api2/json", verify=False, timeout=90) as client:
        client.headers["Authorization"] = f"PVEAPIToken={made['full-tokenid']}={made['value']}"
        yield client
    host.delete("/access/users/anna@pve")


def tar(*steps: Step, config: str | bytes | None = PLAIN) -> bytes:
    """A backup with a good configuration and further members."""
    buffer = io.BytesIO(backup_tar(config))
    with tarfile.open(fileobj=buffer, mode="a", format=tarfile.PAX_FORMAT) as archive:
        for step in steps:
            step(archive)
    return buffer.getvalue()


# members

Steps = Callable[[str], list[Step]]
REFUSED: dict[str, Steps] = {
    "hard link to a host file": lambda away: [member("h", HARD, f"{away}/hosts"), member("h")],
    "hard link with dots": lambda away: [member("h", HARD, f"{'../' * 12}{away}/hosts"), member("h")],
    "character device": lambda _: [member("mem", CHR)],
    "block device": lambda _: [member("disk", BLK, devmajor=7, devminor=0)],
    "owner beyond the range": lambda _: [member("big", uid=65536 * 2, gid=65536 * 2)],
    "negative size": lambda _: [raw(header("neg", size=b"\xff" * 11 + b"\x00")), raw(b"x" * 512)],
    "size beyond everything": lambda _: [raw(header("eib", size=b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7))],
}
HARMLESS: dict[str, Steps] = {
    "absolute name": lambda away: [member(f"{away}/new"), member(f"{away}/hosts")],
    "dots": lambda away: [member(f"{'../' * 12}{away[1:]}/new"), member(f"a/../{'../' * 12}{away[1:]}/hosts")],
    "write through a link": lambda away: [member("d", SYM, away), member("d/new"), member("d/hosts")],
    "folder that becomes a link": lambda away: [member("x", DIR), member("x", SYM, away), member("x/new")],
    "link in the configuration's place": lambda away: [member("./etc/vzdump", SYM, away), member("./etc/vzdump/new")],
    "setuid": lambda _: [member("su", mode=0o6777), member("folder", DIR, mode=0o7777)],
    "nodes in /dev": lambda _: [member("./dev/sda", BLK), member("dev/mem", CHR)],
    "newline in a name": lambda _: [member("a\nb"), member("--checkpoint-action=exec=id"), member("c\r\n\x1b[31md")],
    "path by header": lambda away: [member("plain", pax_headers={"path": f"{'../' * 12}{away[1:]}/new"})],
    "sparse": lambda _: [
        member("s", pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "../../s",
                                 "GNU.sparse.realsize": str(1 << 40)}, data=b"1\n0\n1\n".ljust(512, b"\0") + b"x"),
    ],
}  # fmt: skip

NOT_WHOLE = {"dots", "write through a link", "folder that becomes a link", "path by header", "sparse"}
"""What tar(1) cannot unpack as it stands, so that nothing of it is kept."""


@pytest.mark.parametrize("name", REFUSED)
def test_an_archive_that_asks_for_the_host_is_refused(target: Target, bird: Canary, name: str) -> None:
    vmid, told = target.restore(target.put(tar(*REFUSED[name](str(bird.folder)))))
    assert vmid is None, told
    assert "could not be unpacked" in told
    assert bird.secret not in told


@pytest.mark.parametrize("privileged", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", HARMLESS)
def test_an_archive_cannot_leave_its_root(target: Target, bird: Canary, name: str, privileged: bool) -> None:
    """ATTACKS 4 and 6. Without `host/confine.py`'s root and ids, and tar(1)'s own care, the canary would be changed.

    What stands before and behind the evil members has arrived: if nothing were unpacked this would fail as well.
    """
    steps = [member("./srv/first", data=b"good"), *HARMLESS[name](str(bird.folder)), member("./srv/last", data=b"good")]
    data = tar(*steps)
    vmid, told = target.restore(target.put(data), unprivileged=int(not privileged))
    assert bird.secret not in told
    if name in NOT_WHOLE:
        assert vmid is None
        return
    assert vmid is not None, told
    root = target.host.root / f"state/storage/images/{vmid}/vm-{vmid}-disk-0.subvol"
    assert [(root / f"srv/{part}").read_text() for part in ("first", "last")] == ["good", "good"]
    assert nodes(root) == []
    assert root.parent.stat().st_mode & 0o077 == 0, "another user of the host reaches setuid programs"
    assert not (root / "etc/vzdump").is_dir()
    target.remove(vmid)


def test_a_mount_point_behind_a_link_stays_inside(target: Target, bird: Canary) -> None:
    """The link is there before the volume's folder is made, by the archive's own first try."""
    config = PLAIN + "mp0: tank:subvol-105-disk-1,mp=/a/b,size=16M\n"
    data = tar(member("./a", SYM, str(bird.folder)), member("./a/b/new"), member("./a/new"), config=config)
    vmid, told = target.restore(target.put(data))
    assert bird.secret not in told
    if vmid is not None:
        target.remove(vmid)


@pytest.mark.parametrize("where", ["/proc/self", "/dev", "/sys/fs/cgroup", "/etc/vzdump", "/bin", "/../.."])
def test_a_mount_point_in_odd_places(target: Target, where: str) -> None:
    config = PLAIN + f"mp0: tank:subvol-105-disk-1,mp={where},size=16M\n"
    vmid, _ = target.restore(target.put(backup_tar(config, root=busybox_tar())))
    if vmid is not None:
        target.remove(vmid)


# streams that end early, grow, or are something else


@pytest.mark.parametrize("extension", [".tar", ".tar.gz", ".tar.zst"])
def test_truncated_anywhere(target: Target, extension: str) -> None:
    whole = tar(member("a", data=secrets.token_bytes(16384)))
    packer = {".tar": ["cat"], ".tar.gz": ["gzip", "-c"], ".tar.zst": ["zstd", "-qc"]}[extension]
    packed = subprocess.run(packer, input=whole, check=True, capture_output=True).stdout
    end = len(whole) - 10240 if extension == ".tar" else len(packed) - 4
    for part in (0, 1, 300, 1024, 1536, 2048, end // 2, end - 700, end):
        vmid, told = target.restore(target.put(packed[:part], extension=extension))
        assert vmid is None, (part, told)


NOTHING = {
    "text": (b"no archive" * 1000, ".tar"),
    "other compression": (gzip.compress(tar()), ".tar.zst"),
    "compressed without the name": (gzip.compress(tar()), ".tar"),
    "altered": (gzip.compress(tar())[:200] + bytes(64) + gzip.compress(tar())[264:], ".tar.gz"),
    "empty archive": (bytes(10240), ".tar"),
    "a VM's": (vma({"qemu-server.conf": b"memory: 16\n"}, {}), ".tar"),
    "a template": (busybox_tar(), ".tar"),
}


@pytest.mark.parametrize("name", NOTHING)
def test_what_is_no_backup_leaves_nothing(target: Target, name: str) -> None:
    data, extension = NOTHING[name]
    vmid, told = target.restore(target.put(data, extension=extension))
    assert vmid is None, told
    assert "archive" in told or "could not be read" in told


def test_a_link_is_no_backup(target: Target, bird: Canary) -> None:
    volid = target.put(b"")
    file = target.host.root / "state/storage/dump" / volid.rpartition("/")[2]
    file.unlink()
    file.symlink_to(bird.folder / "passwd")
    vmid, told = target.restore(volid)
    assert vmid is None
    assert bird.secret not in told


def bomb(gib: int) -> bytes:
    """An archive of a file of zeros, compressed to a ten thousandth."""
    head = backup_tar(PLAIN)[:-1024].rstrip(b"\0")
    head = head.ljust(-(-len(head) // 512) * 512, b"\0")
    head += header("zeros", size=b"\x80" + (gib << 30).to_bytes(11, "big"))
    return packed(head) + packed(bytes(64 << 20)) * (16 * gib)


def packed(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-qc1"], input=data, check=True, capture_output=True).stdout


def test_a_bomb_ends_where_its_volumes_end(target: Target) -> None:
    """ATTACKS 3. Without a size of the volume, or the limit of `host/unpacked.py`, the host's disk would fill up."""
    volid, memory = target.put(bomb(4), extension=".tar.zst"), resident(target.host)
    began = time.monotonic()
    vmid, told = target.restore(volid, rootfs="local:0.015625")
    assert (vmid, "the volume is full" in told or "unpacks to more than" in told) == (None, True), told
    assert time.monotonic() - began < 60 * PATIENCE
    assert resident(target.host) - memory < 100 << 20


def test_a_huge_configuration_is_not_read(target: Target) -> None:
    """ATTACKS 3: a gigabyte at the configuration's place. Without its limit the daemon would hold all of it."""
    size = 1 << 30
    head = header("./etc/vzdump/pct.conf", size=b"%011o\0" % size)
    volid = target.put(packed(head) + packed(b"#" * (64 << 20)) * (size >> 26), extension=".tar.zst")
    memory = resident(target.host)
    began = time.monotonic()
    vmid, told = target.restore(volid)
    assert vmid is None
    assert "config" in told, told
    assert time.monotonic() - began < 30 * PATIENCE
    assert resident(target.host) - memory < 100 << 20


@pytest.mark.slow
def test_a_folder_without_a_size_takes_a_part_of_a_bomb(target: Target) -> None:
    """ATTACKS 3. Without the limit of `host/unpacked.py` all of it is unpacked."""
    vmid, told = target.restore(target.put(bomb(9), extension=".tar.zst"))
    assert (vmid, "unpacks to more than" in told) == (None, True), told


def test_very_many_members_hold_up_nobody(target: Target) -> None:
    """More files than the volume has room for; others are served meanwhile."""
    block = b"".join(header(f"m/{number}") for number in range(40_000))
    volid = target.put(gzip.compress(tar(member("m", DIR), raw(block)), 1), extension=".tar.gz")
    host, vmid = target.host, target.host.new_vmid()
    upid = host.post(f"/nodes/{host.node}/lxc", vmid=vmid, ostemplate=volid, restore=1, rootfs="local:0.0625")
    longest, status = 0.0, {"status": "running"}
    while status["status"] != "stopped":
        began = time.monotonic()
        status = host.get(f"/nodes/{host.node}/tasks/{upid}/status")
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.1)
    assert "the volume is full" in status["exitstatus"]
    assert longest < 5


# configurations

META = "./etc/vzdump/pct.conf"
PARTIAL: dict[str, list[Step]] = {
    "missing": [member("./etc/hosts")],
    "a directory": [member(META, DIR)],
    "a symbolic link": [member("./etc/passwd", data=PLAIN.encode()), member(META, SYM, "../passwd")],
    "a link to the host's": [member(META, SYM, "/etc/passwd")],
    "a hard link": [member("./etc/real", data=PLAIN.encode()), member(META, HARD, "./etc/real")],
    "a hard link to the host's": [member(META, HARD, "/etc/passwd")],
    "a pipe": [member(META, FIFO)],
    "a device": [member(META, CHR)],
    "half": [raw(header(META, size=b"00000001000")), raw(b"rootfs: x")],
    "far behind": [*(member(f"f{n}", data=b"x" * 40_000) for n in range(70)), member(META, data=PLAIN.encode())],
    "not UTF-8": [member(META, data=b"hostname: \xff\xfe\n")],
    "huge": [member(META, data=PLAIN.encode() + b"#x\n" * 400_000)],
    "with very many lines": [member(META, data=PLAIN.encode() + b"\n" * 30_000)],
    "empty": [member(META, data=b"")],
    "without a root": [member(META, data=b"hostname: shop\nunprivileged: 1\n")],
    "a NUL": [member(META, data=PLAIN.encode() + b"memory: 1\0")],
    "a sparse file": [member(META, data=b"1\n0\n512\n".ljust(512, b"\0") + b"x" * 512, pax_headers={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": META, "GNU.sparse.realsize": "999999"})],
}  # fmt: skip


@pytest.mark.parametrize("name", PARTIAL)
def test_without_a_whole_configuration_nothing_is_restored(target: Target, name: str) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for step in PARTIAL[name]:
            step(archive)
    vmid, told = target.restore(target.put(buffer.getvalue()))
    assert vmid is None, told
    assert "config" in told or "the backup does not tell its size" in told


def test_the_first_configuration_counts(target: Target, bird: Canary) -> None:
    """A second one, or a file of the guest's at that place, is neither read nor unpacked."""
    evil = PLAIN.replace("shop", "evil") + f"mp0: {bird.folder},mp=/mnt\n"
    vmid, told = target.restore(target.put(tar(member(META, data=evil.encode()), member("etc/vzdump/x"))))
    assert vmid is not None, told
    config = target.host.get(target.host.path(vmid, "/config"))
    assert (config["hostname"], "mp0" in config) == ("shop", False)
    assert not (target.host.root / f"state/storage/images/{vmid}/vm-{vmid}-disk-0.subvol/etc/vzdump").exists()
    target.remove(vmid)


@pytest.fixture
def victim(host: Host) -> Iterator[int]:
    """Another guest, whose volume is never a stranger's."""
    target = Target(host)
    vmid, told = target.restore(target.put(backup_tar(PLAIN, {"./secret": "theirs"})))
    assert vmid is not None, told
    yield vmid
    target.remove(vmid)


def test_volumes_of_others_are_never_used(host: Host, victim: int) -> None:
    target = Target(host)
    theirs = f"local:{victim}/vm-{victim}-disk-0.subvol"
    for line in (
        f"mp0: {theirs},mp=/mnt,backup=1", f"unused0: {theirs}", f"mp0: {theirs},mp=/mnt,shared=1,size=0",
        f"mp0: local:{victim}/../{victim}/vm-{victim}-disk-0.subvol,mp=/mnt",
    ):  # fmt: skip
        config = PLAIN.replace("tank:subvol-105-disk-0", theirs) + line + "\n"
        vmid, told = target.restore(target.put(backup_tar(config)))
        if vmid is not None:
            assert theirs not in str(host.get(host.path(vmid, "/config"))), line
            target.remove(vmid)
        else:
            assert "theirs" not in told
    assert (host.root / f"state/storage/images/{victim}/vm-{victim}-disk-0.subvol/secret").read_text() == "theirs"
    target.check()


ROOTS = """dev0: /dev/kvm
features: nesting=1,keyctl=1,fuse=1,mknod=1,mount=nfs;cifs
hookscript: local:snippets/evil.sh
lock: backup
lxc.apparmor.profile: unconfined
lxc.cap.drop:
lxc.hook.start-host: /bin/sh
lxc.idmap: u 0 0 65536
lxc.mount.entry: / mnt none bind,create=dir 0 0
"""


def test_others_than_root_get_nothing_of_the_host(target: Target, anna: httpx.Client) -> None:
    vmid, told = target.restore(target.put(backup_tar(PLAIN + ROOTS)), anna)
    assert vmid is not None, told
    config = target.host.get(target.host.path(vmid, "/config"))
    assert config["features"] == "nesting=1"
    assert not {"dev0", "hookscript", "lock"} & config.keys()
    assert not [key for key in config if key.startswith("lxc")]
    for word in ("dev0", "features", "hookscript", "lxc.hook.start-host"):
        assert f"{word}" in told
    target.remove(vmid)


@pytest.mark.parametrize(
    ("config", "options", "why"),
    [
        (PLAIN + "mp0: /etc,mp=/mnt\n", {}, "bind"),
        (PLAIN + "mp0: /dev/sda1,mp=/mnt\n", {}, "bind"),
        (PLAIN.replace("unprivileged: 1\n", ""), {}, "Sys.Modify"),
        (PLAIN.replace("unprivileged: 1", "unprivileged: 0"), {}, "Sys.Modify"),
        (PLAIN, {"unprivileged": 0}, "Sys.Modify"),
        (PLAIN, {"features": "keyctl=1", "unprivileged": 1}, "feature flags"),
        (PLAIN, {"mp0": "/etc,mp=/mnt", "rootfs": "local:0"}, "bind"),
        (PLAIN, {"dev0": "/dev/kvm"}, "root@pam"),
        (PLAIN, {"hookscript": "local:snippets/evil.sh"}, "root@pam"),
        (PLAIN, {"storage": "elsewhere"}, "elsewhere"),
    ],
)
def test_others_than_root_may_not_ask_for_the_host(
    target: Target, anna: httpx.Client, config: str, options: dict[str, Any], why: str
) -> None:
    vmid, told = target.restore(target.put(backup_tar(config)), anna, **options)
    assert (vmid, why in told) == (None, True), told


def test_a_path_of_the_host_is_roots(target: Target, anna: httpx.Client) -> None:
    volid = target.put(backup_tar(PLAIN))
    path = str(target.host.root / "state/storage/dump" / volid.rpartition("/")[2])
    for asked in (path, "/etc/passwd", "/proc/self/mem", "/dev/zero", "local:backup/../../../etc/passwd"):
        vmid, told = target.restore(asked, anna)
        assert vmid is None, told
    for asked in ("/etc/passwd", f"{path}/../{path.rpartition('/')[2]}", path.replace("lxc-105", "lxc-5")):
        vmid, told = target.restore(asked)
        assert vmid is None, told


INJECTED = {
    "hostname": "shop\\nlxc.cap.drop =",
    "hostname ": "../../etc",
    "description": "x",
    "net0": "name=eth0\rlxc.net.0.type = phys,bridge=vmbr0",
    "net0 ": "name=eth0,bridge=../../x,hwaddr=BC:24:11:04:4F:5E",
    "mp0": "local:1,mp=/x\x0blxc",
    "timezone": "../../../etc/shadow",
    "nameserver": "1.1.1.1\x85options",
    "searchdomain": "a\u2028b",
    "entrypoint": "/bin/sh\x1f-c",
    "env": "A=1\x01B",
    "tags": "a;b\x07",
    "startup": "order=1\x0c",
}


@pytest.mark.parametrize("key", INJECTED)
def test_nothing_ends_a_line_of_a_generated_file(target: Target, key: str) -> None:
    value = INJECTED[key]
    config = "".join(line for line in PLAIN.splitlines(True) if not line.startswith(f"{key.strip()}:"))
    vmid, told = target.restore(target.put(backup_tar(f"{config}{key.strip()}: {value}\n")))
    if vmid is None:
        assert "control character" in told or key.strip() in told
        return
    stored = str(target.host.get(target.host.path(vmid, "/config")))
    assert value not in stored or value.isalnum()
    target.remove(vmid)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("rootfs: tank:subvol-105-disk-0,size=99999999T", "rootfs"),
        ("rootfs: tank:subvol-105-disk-0,size=9000T", "rootfs"),
        ("rootfs: tank:subvol-105-disk-0,size=-1", "rootfs"),
        ("rootfs: /etc", "rootfs"),
        ("rootfs: /dev/sda", "rootfs"),
        ("memory: -5", None),
        ("memory: 99999999999999999999", None),
        ("cores: 0", None),
        ("net999: name=eth0", None),
        ("net0: name=eth0,bridge=nowhere", None),
        ("mp0: nowhere:subvol-105-disk-1,mp=/x,size=16M", None),
        ("\n".join(f"mp{n}: t:s-1,mp=/same" for n in range(300)), None),
        ("\n".join(f"x{n}: 1" for n in range(15000)), None),
    ],
)
def test_a_configuration_of_nonsense(target: Target, line: str, why: str | None) -> None:
    config = PLAIN if why is None else PLAIN.replace("rootfs: tank:subvol-105-disk-0\n", "")
    vmid, told = target.restore(target.put(backup_tar(f"{config}{line}\n")))
    if why is not None:
        assert (vmid, why in told) == (None, True), told
    elif vmid is not None:
        target.remove(vmid)


def test_a_replaced_guest_stays_when_its_backup_is_evil(host: Host, victim: int) -> None:
    target = Target(host)
    before = host.get(host.path(victim, "/config"))
    for data in (tar(member("mem", CHR)), tar()[:3000], backup_tar(None), tar(member("h", HARD, "/etc/passwd"))):
        vmid, told = target.restore(target.put(data), vmid=victim, force=1)
        assert vmid is None, told
    assert host.get(host.path(victim, "/config")) == before
    assert (host.root / f"state/storage/images/{victim}/vm-{victim}-disk-0.subvol/secret").read_text() == "theirs"
    target.check()


# VMs

SCSI = b"drive-scsi0"
VM = """cores: 1
memory: 16
name: saved
scsi0: tank:vm-105-disk-0,size=128K
#qmdump#map:scsi0:drive-scsi0:tank:raw:
"""


def vm(config: str = VM, disks: dict[str, bytes] | None = None) -> bytes:
    return vma({"qemu-server.conf": config.encode()}, disks or {"drive-scsi0": b"data" * 16384 + bytes(65536)})


def patched(at: int, data: bytes, *, extent: bool = False) -> bytes:
    """An archive with other bytes in its header or its first extent's, and a right checksum."""
    whole = bytearray(vm())
    (size,) = struct.unpack_from(">I", whole, 56)
    begin, length, place = (size, 512, 24) if extent else (0, size, 32)
    whole[begin + at : begin + at + len(data)] = data
    whole[begin + place : begin + place + 16] = bytes(16)
    whole[begin + place : begin + place + 16] = hashlib.md5(whole[begin : begin + length]).digest()
    return bytes(whole)


def devices(size: int) -> bytes:
    """The table of an archive of 255 devices, all called like the first one."""
    name = struct.unpack_from(">I", vm(), 4096 + 32)[0]
    return struct.pack(">IIQ16x", name, 0, size) * 255


EVIL_VMA: dict[str, bytes] = {
    "wrong magic": b"VMB" + vm()[3:],
    "wrong version": patched(4, b"\0\0\0\2"),
    "wrong checksum": vm()[:100] + b"x" + vm()[101:],
    "wrong checksum of an extent": vm()[:-66000] + b"x" + vm()[-65999:],
    "header of 4 GiB": patched(56, b"\xff" * 4)[:20000],
    "files outside": patched(2044, struct.pack(">I", 1 << 30)),
    "files that overlap": patched(48, struct.pack(">II", 0, 0xFFFFFFFF)),
    "a huge disk": patched(4096 + 32 + 8, struct.pack(">Q", 1 << 62)),
    "a disk of all": patched(4096 + 32 + 8, b"\xff" * 8),
    "a disk without a size": patched(4096 + 32 + 8, bytes(8)),
    "255 disks": patched(4096 + 32, devices(1 << 40)),
    "255 disks of other names": vm(VM, {f"drive-x{number}": bytes(4096) for number in range(255)}),
    "no disk": patched(4096 + 32, bytes(32)),
    "a cluster beyond the disk": patched(40, struct.pack(">HBBI", 0xFFFF, 0, 1, 1 << 31), extent=True),
    "a cluster just beyond": patched(40, struct.pack(">HBBI", 0xFFFF, 0, 1, 2), extent=True),
    "an unknown disk": patched(40, struct.pack(">HBBI", 0xFFFF, 0, 77, 0), extent=True),
    "more blocks than told": patched(6, b"\xff\xff", extent=True),
    "another archive's extent": patched(8, b"x" * 16, extent=True),
    "text": b"no archive" * 5000,
    "a container's": backup_tar(PLAIN),
    "without a configuration": vma({"other.conf": b"x"}, {"drive-scsi0": bytes(65536)}),
    "a configuration of a disk that is not there": vm(VM, {"drive-scsi9": bytes(65536)}),
    "no extent": vm()[: struct.unpack_from(">I", vm(), 56)[0]],
    "control characters": vm(VM + "name: a\0b\n"),
    "a name that leads out": vm(VM, {"../../../etc/passwd": bytes(65536)}),
}


@pytest.mark.parametrize("name", EVIL_VMA)
def test_a_vma_archive_that_lies_is_refused(target: Target, bird: Canary, name: str) -> None:
    vmid, told = target.restore(target.put(EVIL_VMA[name], "qemu", ".vma"))
    assert vmid is None, told
    assert bird.secret not in told
    assert "storage" not in told


@pytest.mark.parametrize("part", [0, 3, 60, 4096, 12288, 13000, -65600, -4096, -1])
def test_a_vma_archive_that_is_cut_off_is_refused(target: Target, part: int) -> None:
    vmid, told = target.restore(target.put(vm()[:part], "qemu", ".vma"))
    assert vmid is None, told


ROOTS_VM = """args: -device evil
hookscript: local:snippets/evil.sh
hostpci0: 0000:00:00.0
parallel0: /dev/parport0
serial0: /dev/ttyS0
usb0: host=1234:5678
scsi1: /dev/sda,size=1G
virtio0: /etc/shadow,size=1G
ide2: /etc/shadow,media=cdrom
efidisk0: /dev/sdb,size=1M
unused0: local:100/vm-100-disk-0.raw
cicustom: user=local:snippets/evil.yaml
lock: backup
"""


@pytest.mark.parametrize("who", ["root", "anna"])
def test_a_vms_backup_brings_no_disk_of_the_host(target: Target, anna: httpx.Client, who: str) -> None:
    vmid, told = target.restore(target.put(vm(VM + ROOTS_VM), "qemu", ".vma"), anna if who == "anna" else None)
    if vmid is None:
        return
    config = target.host.get(f"/nodes/{target.host.node}/qemu/{vmid}/config")
    assert not {"scsi1", "virtio0", "efidisk0", "unused0", "lock"} & config.keys()
    assert "/dev/sd" not in str(config)
    if who == "anna":
        assert not {"args", "hookscript", "hostpci0", "parallel0", "usb0", "cicustom"} & config.keys(), told
        assert "/" not in config.get("serial0", "")
        assert "/etc" not in config.get("ide2", "")
    target.remove(vmid, "qemu")
