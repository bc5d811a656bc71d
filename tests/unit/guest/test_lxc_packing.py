"""A container's files as a backup's tar stream, and back; and what a command sees that is confined to a tree."""

import asyncio
import io
import os
import re
import socket
import struct
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.guest.lxc import packing
from bastide.guest.lxc.preparation import Preparation
from bastide.guest.protocol import IdMap
from bastide.host import idmap
from bastide.host.syscalls import acting_as
from bastide.model.backup import Tree
from bastide.model.backup_options import STANDARD_EXCLUDES

FIRST = 1_000_000
IDS = IdMap(FIRST)
GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "lxc" / "packing.txt"
CONFIG = {"pct.conf": b"arch: amd64\nhostname: x\n"}

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes namespaces")


def packed(tree: Tree, exclude: Sequence[str] = (), files: Mapping[str, bytes] = CONFIG) -> bytes:
    """The whole stream."""
    with Preparation().packing(tree, IDS, files, exclude) as stage:
        done = subprocess.run(stage.argv, pass_fds=stage.pass_fds, capture_output=True, check=False)
    assert done.returncode in stage.fine, done.stderr
    return done.stdout


def unpacked(tree: Tree, stream: bytes) -> subprocess.CompletedProcess[bytes]:
    """Unpack a stream."""

    async def work() -> subprocess.CompletedProcess[bytes]:
        async with Preparation().unpacking(tree, IDS) as argv:
            return await asyncio.to_thread(subprocess.run, argv, input=stream, capture_output=True, check=False)

    return asyncio.run(work())


def names(stream: bytes) -> list[str]:
    """Its members' names."""
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        return archive.getnames()


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A root with a volume mounted in it, whose place is reached through a link that is absolute in the guest."""
    root, volume = tmp_path / "root", tmp_path / "volume"
    for folder in ("etc/vzdump", "tmp", "var/tmp", "srv/real", "home"):
        (root / folder).mkdir(parents=True)
    volume.mkdir()
    (root / "data").symlink_to("/srv/real")
    (root / "etc/hostname").write_text("x\n")
    (root / "etc/vzdump/pct.conf").write_text("of an earlier restore\n")
    (root / "tmp/passing").write_text("")
    (root / "srv/real/hidden").write_text("below the mount")
    (root / "home/core").write_text("c")
    (volume / "kept").write_text("kept")
    os.chown(volume / "kept", 33, 33)
    os.setxattr(volume / "kept", "user.note", b"n")
    with (root / "home/holes").open("wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"middle")
    return Tree(root, FIRST, {"/data": volume})


@needs_root
def test_a_stream_begins_with_the_configuration_and_holds_the_volumes(tree: Tree) -> None:
    """Owners are the guest's; what lies below a mount, and in ./etc/vzdump, is left out."""
    stream = packed(tree, STANDARD_EXCLUDES)
    found = names(stream)
    assert found[:3] == ["./etc/vzdump", "./etc/vzdump/pct.conf", "."]
    assert {"./etc/hostname", "./srv/real/kept", "./data", "./tmp", "./home/core"} < set(found)
    assert not {"./tmp/passing", "./srv/real/hidden"} & set(found)
    assert found.count("./etc/vzdump/pct.conf") == 1
    with tarfile.open(fileobj=io.BytesIO(stream)) as archive:
        kept = archive.getmember("./srv/real/kept")
        assert (kept.uid, kept.gid, kept.pax_headers["SCHILY.xattr.user.note"]) == (33, 33, "n")
        config = archive.extractfile("./etc/vzdump/pct.conf")
        assert config is not None
        assert config.read() == CONFIG["pct.conf"]
        assert archive.getmember("./home/holes").size == (32 << 20) + 6 + (32 << 20) - 6
    assert len(stream) < 1 << 20, "holes are not written"


@needs_root
def test_tar_by_hand_reads_it(tree: Tree, tmp_path: Path) -> None:
    """As Proxmox VE does."""
    target = tmp_path / "by-hand"
    target.mkdir()
    argv = ["tar", "xpf", "-", "--numeric-owner", "-C", str(target)]
    subprocess.run(argv, input=packed(tree), check=True)
    assert (target / "etc/vzdump/pct.conf").read_bytes() == CONFIG["pct.conf"]
    assert (target / "srv/real/kept").stat().st_uid == 33


@needs_root
def test_it_comes_back_into_empty_volumes(tree: Tree, tmp_path: Path) -> None:
    """The folders that volumes are mounted at are made, as the guest's root owns them."""
    root, volume = tmp_path / "new", tmp_path / "new-volume"
    root.mkdir()
    volume.mkdir()
    done = unpacked(Tree(root, FIRST, {"/srv/real": volume}), packed(tree))
    assert done.returncode == 0, done.stderr
    assert (volume / "kept").stat().st_uid == 33
    assert os.getxattr(volume / "kept", "user.note") == b"n"
    assert list((root / "srv/real").iterdir()) == []
    assert (root / "srv").stat().st_uid == 0
    assert not (root / "etc/vzdump/pct.conf").exists()
    assert (root / "home/holes").stat().st_blocks < 64


@needs_root
@pytest.mark.parametrize(
    ("pattern", "gone"),
    [
        ("/home/core", {"./home/core"}),
        ("core", {"./home/core"}),
        ("home/", {"./home", "./home/core", "./home/holes"}),
        ("/core", set()),
        ("/data", {"./data"}),
        ("*.conf", set()),
        ("/srv/*/kept", {"./srv/real/kept"}),
    ],
)
def test_patterns_are_proxmox_ve_s(tree: Tree, pattern: str, gone: set[str]) -> None:
    """Anchored with a slash in front, else at any depth; the configuration is never left out."""
    whole = set(names(packed(tree)))
    assert whole - set(names(packed(tree, [pattern]))) == gone


@pytest.mark.parametrize("pattern", ["", "/", "a\nb", "a\0", "x" * 5000, "\ud800"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    """It would become an argument that excludes everything, or a line of a log that is not ours."""
    for command in (packing.pack, packing.follow):
        with pytest.raises(InvalidParameter) as refused:
            command([], [pattern])
        assert set(refused.value.errors) == {"exclude-path"}


def test_too_many_patterns_are_refused() -> None:
    """The command line would have no room for them."""
    with pytest.raises(InvalidParameter, match="together"):
        packing.pack([], ["x" * 4000] * 500)


@given(st.text(st.characters(min_codepoint=32, exclude_characters="\x7f", exclude_categories=["Cs"]), min_size=1))
def test_no_pattern_becomes_an_option(pattern: str) -> None:
    """Whatever it begins with."""
    if not pattern.rstrip("/"):
        return
    for argv in (packing.pack([], [pattern]), packing.follow([], [pattern])):
        others = len(packing.pack([], [])) if argv[0].endswith("tar") else len(packing.follow([], []))
        assert len(argv) == others + 1
        assert sum(pattern.rstrip("/") in argument and argument.startswith("--") for argument in argv) >= 1


@needs_root
def test_the_tree_is_not_changed(tree: Tree) -> None:
    """It is shown read-only, also its volumes."""
    for place in ("/target/new", "/target/srv/real/new"):
        argv = idmap.confined(tree, 65536, ["/usr/bin/touch", place], writable=False)
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert "Read-only file system" in done.stderr


@needs_root
@pytest.mark.parametrize("link", ["/", "../../../../../../..", "/proc/self/root", "/nowhere"])
def test_no_link_of_the_guest_leads_out(tmp_path: Path, link: str) -> None:
    """A place is found inside the root; one that is not there is an error that names it."""
    root, volume = tmp_path / "root", tmp_path / "volume"
    root.mkdir()
    volume.mkdir()
    (volume / "mark").touch()
    (root / "out").symlink_to(link)
    argv = idmap.confined(Tree(root, FIRST, {"/out/place": volume}), 65536, ["/usr/bin/true"], writable=False)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 125
    assert "'/out/place'" in done.stderr
    writable = idmap.confined(
        Tree(root, FIRST, {"/out/place": volume}), 65536, ["/usr/bin/touch", "/target/place/x"], writable=True
    )
    subprocess.run(writable, capture_output=True, check=False)
    assert not Path("/place").exists()
    assert not Path("/nowhere").exists()


@needs_root
def test_volumes_lie_in_volumes(tmp_path: Path) -> None:
    """Those above are mounted first."""
    root, outer, inner = (tmp_path / name for name in ("root", "outer", "inner"))
    for folder in (root, outer, inner):
        folder.mkdir()
    (inner / "deep").touch()
    tree = Tree(root, FIRST, {"/srv/data": inner, "/srv": outer})
    argv = idmap.confined(tree, 65536, ["/usr/bin/test", "-f", "/target/srv/data/deep"], writable=True)
    assert subprocess.run(argv, check=False).returncode == 0
    assert [path.name for path in root.iterdir()] == ["srv"]
    assert [path.name for path in outer.iterdir()] == ["data"]
    assert (outer / "data").stat().st_uid == 0


@needs_root
def test_sockets_are_left_out_and_changes_are_no_failure(tmp_path: Path) -> None:
    """As a running guest's files are."""
    (tmp_path / "fifo").touch()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    os.mkfifo(tmp_path / "pipe")
    found = names(packed(Tree(tmp_path, FIRST)))
    listening.close()
    assert "./pipe" in found
    assert "./socket" not in found
    assert 1 in packing.FINE


@needs_root
def test_rsync_follows_a_tree(tree: Tree, tmp_path: Path) -> None:
    """Twice: what is gone meanwhile goes, holes and owners stay, volumes become folders."""
    target = tmp_path / "target"
    target.mkdir()
    argv = Preparation().following(tree, target, IDS, ["/tmp/?*"])
    subprocess.run(argv, check=True)
    with acting_as(0):
        (tree.root / "home/core").unlink()
        (tree.root / "home/more").write_text("more")
    subprocess.run(argv, check=True)
    assert sorted(path.name for path in (target / "home").iterdir()) == ["holes", "more"]
    assert (target / "home/holes").stat().st_blocks < 128
    assert (target / "srv/real/kept").stat().st_uid == 33
    assert os.getxattr(target / "srv/real/kept", "user.note") == b"n"
    assert not (target / "tmp/passing").exists()
    assert not (target / "etc/vzdump").exists()


def test_what_is_asked_for() -> None:
    """Against golden files; GOLDEN=write writes them anew."""
    asked = {
        "pack": packing.pack(["/srv/[a]"], ["/tmp/?*", "*.o"]),
        "unpack": packing.UNPACK,
        "follow": packing.follow(["/srv/[a]"], ["/tmp/?*", "*.o"], 2048),
        "copy out": packing.COPY_OUT,
        "copy in": packing.COPY_IN,
    }
    text = "".join(f"# {what}\n" + "".join(f"{word}\n" for word in argv) + "\n" for what, argv in asked.items())
    if os.environ.get("GOLDEN") == "write":
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


@needs_root
def test_access_lists_come_back(tmp_path: Path) -> None:
    """With the guest's numbers, whatever names the host knows them by."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    (source / "file").touch(0o640)
    # Version 2; user and mask entries of acl(5): tag, permissions, id.
    rows = [(1, 6, -1), (2, 4, 1), (4, 4, -1), (0x10, 4, -1), (0x20, 0, -1)]
    access = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *row) for row in rows)
    os.setxattr(source / "file", "system.posix_acl_access", access)
    done = unpacked(Tree(target, FIRST), packed(Tree(source, FIRST)))
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.getxattr(target / "file", "system.posix_acl_access") == access


def test_the_order_of_patterns() -> None:
    """Anchored ones and others are told apart."""
    argv = packing.pack(["/srv/[a]"], ["/tmp/?*", "*.o"])
    assert re.findall(r"--exclude=\S+|--(?:no-)?anchored", " ".join(argv)) == [
        "--anchored",
        "--exclude=./lost+found",
        "--exclude=./srv/\\[a]/lost+found",
        "--exclude=./etc/vzdump",
        "--exclude=./tmp/?*",
        "--no-anchored",
        "--exclude=*.o",
    ]
    assert argv[-2:] == ["--", "."]
