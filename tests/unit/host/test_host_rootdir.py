"""A guest's root is a world of its own: nothing that an evil root holds leads outside or blocks."""

import contextlib
import hashlib
import os
import threading
from pathlib import Path

import pytest

from bastide.base.errors import BastideError, HostFailure, NotFound
from bastide.host.rootdir import RootDir

SECRET = b"only for the host\n"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "canary").write_bytes(SECRET)
    return folder


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    folder = tmp_path / "guest"
    (folder / "etc").mkdir(parents=True)
    return folder


def fingerprint(folder: Path) -> str:
    parts = []
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        parts.append(f"{path} {found.st_mode} {found.st_nlink} {found.st_mtime_ns} {content!r}")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


EVIL = {
    "absolute file": lambda guest, out: (guest / "etc/hosts").symlink_to(out / "canary"),
    "relative file": lambda guest, out: (guest / "etc/hosts").symlink_to("../../outside/canary"),
    "chain": lambda guest, out: ((guest / "a").symlink_to(out), (guest / "etc/hosts").symlink_to("/a/canary")),
    "folder": lambda guest, out: ((guest / "etc").rmdir(), (guest / "etc").symlink_to(out)),
    "folder relative": lambda guest, out: ((guest / "etc").rmdir(), (guest / "etc").symlink_to("../outside")),
    "proc": lambda guest, out: (guest / "etc/hosts").symlink_to("/proc/self/root/etc/passwd"),
    "loop": lambda guest, out: (guest / "etc/hosts").symlink_to("hosts"),
    "fifo": lambda guest, out: os.mkfifo(guest / "etc/hosts"),
    "folder for a file": lambda guest, out: (guest / "etc/hosts").mkdir(),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", EVIL)
def test_nothing_outside_is_read_or_changed(kind: str, guest: Path, outside: Path) -> None:
    EVIL[kind](guest, outside)
    before = fingerprint(outside)
    with RootDir(guest) as root:
        for act in (
            lambda: root.read("/etc/hosts"),
            lambda: root.write("/etc/hosts", b"guest\n"),
            lambda: root.update("/etc/hosts", "guest 2\n"),
            lambda: root.mkdir("/etc/hosts/deep"),
            lambda: root.write("/etc/canary", b"overwritten"),
            lambda: root.symlink("/x", "/etc/link"),
            lambda: root.chmod("/etc/hosts", 0o777),
            lambda: root.unlink("/etc/hosts"),
            lambda: root.unlink("/etc/canary"),
        ):
            try:
                result = act()
            except BastideError:
                continue
            assert result is None or SECRET not in result
    assert fingerprint(outside) == before


def test_paths_with_dots_stay_inside(guest: Path, outside: Path) -> None:
    with RootDir(guest) as root:
        root.write("/../../outside", b"x")
        with pytest.raises(NotFound):
            root.read("../outside/canary")
        for bad in ("/", "..", "/etc/..", "a/.", "/etc/\0"):
            with pytest.raises((HostFailure, NotFound)):
                root.write(bad, b"x")
    assert (guest / "outside").read_bytes() == b"x"
    assert (outside / "canary").read_bytes() == SECRET


def test_a_race_of_folder_and_link_never_wins(guest: Path, outside: Path) -> None:
    """ATTACKS 7: a guest's process flips a folder and a link while the host writes below it."""
    (guest / "etc/real").mkdir()
    stop = threading.Event()

    def flip() -> None:
        while not stop.is_set():
            os.rename(guest / "etc/real", guest / "etc/aside")
            os.symlink(outside, guest / "etc/real")
            os.unlink(guest / "etc/real")
            os.rename(guest / "etc/aside", guest / "etc/real")

    thread = threading.Thread(target=flip)
    before = fingerprint(outside)
    thread.start()
    try:
        with RootDir(guest) as root:
            for number in range(1000):
                for act in (
                    lambda n=number: root.write("/etc/real/file", str(n)),
                    lambda: root.read("/etc/real/canary"),
                ):
                    with contextlib.suppress(BastideError):
                        assert act() is None
    finally:
        stop.set()
        thread.join()
    assert fingerprint(outside) == before


def test_reads_are_limited(guest: Path) -> None:
    (guest / "big").write_bytes(b"x" * 101)
    with RootDir(guest) as root:
        assert len(root.read("big", 101)) == 101
        with pytest.raises(HostFailure, match="larger than 100"):
            root.read("big", 100)


def test_update_follows_links_inside_and_keeps_the_mode(guest: Path) -> None:
    (guest / "etc/real").write_text("a")
    (guest / "etc/real").chmod(0o600)
    (guest / "etc/link").symlink_to("/etc/real")
    with RootDir(guest) as root:
        root.update("etc/link", "b")
        assert root.readlink("etc/link") == "/etc/real"
    assert (guest / "etc/real").read_text() == "b"
    assert (guest / "etc/real").stat().st_mode & 0o777 == 0o600


@pytest.mark.system
def test_owners_are_the_guests(guest: Path) -> None:
    with RootDir(guest, owner=200000) as root:
        root.write("etc/file", b"", uid=5, gid=6)
        root.mkdir("etc/a/b")
        root.symlink("x", "etc/link")
    assert ((guest / "etc/file").stat().st_uid, (guest / "etc/file").stat().st_gid) == (200005, 200006)
    assert (guest / "etc/a/b").stat().st_uid == (guest / "etc/a").stat().st_uid == 200000
    assert (guest / "etc/link").lstat().st_uid == 200000


def test_a_full_write_leaves_no_temporary_file(guest: Path) -> None:
    (guest / "etc/folder").mkdir()
    with RootDir(guest) as root:
        with pytest.raises(HostFailure, match="is a folder"):
            root.write("etc/folder", b"x")
        root.write("etc/file", b"1")
        root.write("etc/file", b"2", replace=False)
    assert sorted(path.name for path in (guest / "etc").iterdir()) == ["file", "folder"]
    assert (guest / "etc/file").read_bytes() == b"1"
