"""How borg is called, what its words mean, and the tar stream that is made of its own."""

import io
import json
import os
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import AlreadyExists, BastideError, HostFailure, NoSpace, NotFound, RunError
from bastide.host import borg, borg_tar, confine
from bastide.host.run import Completed

pytestmark = pytest.mark.anyio

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=120)
VALUES = st.binary(max_size=2000)


@given(
    st.dictionaries(NAMES, st.tuples(st.binary(max_size=1500), st.dictionaries(NAMES, VALUES, max_size=3)), max_size=6)
)
def test_a_stream_gets_what_it_lacks(members: Mapping[str, tuple[bytes, Mapping[str, bytes]]]) -> None:
    plain, merged = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        for name, (content, _) in members.items():
            info = tarfile.TarInfo(f"d/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    extra = {
        f"d/{name}".encode(): {b"SCHILY.xattr.user." + key.encode(): value for key, value in records.items()}
        for name, (_, records) in members.items()
    }
    plain.seek(0)
    borg_tar.merge(plain, merged, extra)
    merged.seek(0)
    with tarfile.open(fileobj=merged) as tar:
        found = {member.name: member for member in tar}
        assert list(found) == [f"d/{name}" for name in members]
        for name, (content, _) in members.items():
            file = tar.extractfile(found[f"d/{name}"])
            assert file is not None
            assert file.read() == content
    # What tarfile makes of binary values is its own matter: the records are in the stream as they are.
    for records in extra.values():
        for key, value in records.items():
            assert b" " + key + b"=" + value + b"\n" in merged.getvalue()


def test_a_stream_that_ends_too_early() -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w|", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("file")
        info.size = 2000
        tar.addfile(info, io.BytesIO(bytes(2000)))
    for length in (700, 1300, 100):
        with pytest.raises(ValueError, match="ends too early"):
            borg_tar.merge(io.BytesIO(plain.getvalue()[:length]), io.BytesIO(), {})


ITEMS: list[dict[str, Any]] = [
    {"path": "root", "xattrs": {"user.root": "of no file"}},
    {"path": "root/bin/ping", "xattrs": {"security.capability": "\x7f0100ff", "security.selinux": "x", "user.n": None}},
    {"path": "root/etc", "acl_access": "user::rwx\nuser:55:rw-:55\ngroup::r-x\nmask::rwx\nother::r-x\n"},
    {"path": "\x7f" + b"root/\xff".hex(), "xattrs": {"user.a": "b"}},
    {"path": "files/pct.conf", "xattrs": {"user.a": "b"}},
    {"path": "root/plain"},
]


def test_what_borg_dumps_is_read() -> None:
    text = '{\n    "_name": "x",\n    "_items": [\n'
    text += ",\n".join("    " + json.dumps(item, indent=4).replace("\n", "\n    ") for item in ITEMS)
    text += "\n    ]\n}\n"
    assert [*borg_tar.items_of(io.StringIO(text))] == ITEMS
    assert borg_tar.attributes(iter(ITEMS)) == {
        b"bin/ping": {b"SCHILY.xattr.security.capability": b"\x01\x00\xff", b"SCHILY.xattr.user.n": b""},
        b"etc": {b"SCHILY.acl.access": b"user::rwx,user:55:rw-,group::r-x,mask::rwx,other::r-x"},
        b"\xff": {b"SCHILY.xattr.user.a": b"b"},
    }


def test_attributes_take_so_much_memory_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest can give each of a million files 64 KiB of them."""
    monkeypatch.setattr(borg_tar, "_MEMORY", 10_000)
    items = ({"path": f"root/{number}", "xattrs": {"user.a": "x" * 100}} for number in range(1_000_000))
    with pytest.raises(ValueError, match="more extended attributes"):
        borg_tar.attributes(items)
    assert next(items)["path"] != "root/999999"


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ({"msgid": "Archive.AlreadyExists", "message": "x"}, AlreadyExists),
        ({"msgid": "Archive.DoesNotExist", "message": "x"}, NotFound),
        ({"msgid": "PassphraseWrong", "message": "x"}, HostFailure),
        ({"msgid": "Exception", "message": "OSError: [Errno 28] No space left on device"}, NoSpace),
        ({"msgid": "Repository.InsufficientFreeSpaceError", "message": "x"}, NoSpace),
        ({"msgid": "Unknown", "message": "Traceback (most recent call last):\n  File\nKeyError: 1"}, RunError),
    ],
)
def test_what_a_failure_means(entry: dict[str, str], error: type[BastideError]) -> None:
    done = Completed(2, b"", f"words of Python\n{json.dumps({'levelname': 'ERROR', **entry})}\n")
    with pytest.raises(error) as raised:
        borg._check(done, "vzdump-lxc-100")
    assert "Traceback" not in str(raised.value)
    borg._check(Completed(1, b"", done.stderr), "")


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '"x"', "\0", '{"levelname": 7}'])
def test_words_that_are_none(text: str) -> None:
    with pytest.raises(RunError):
        borg._check(Completed(2, b"", text), "")
    assert borg._warnings(text) == []


def test_whose_lock_is_dead() -> None:
    pid = os.getpid()
    assert borg._is_dead(f"host-bastide.{pid}-0", "host-bastide")  # runs, and is no borg
    assert borg._is_dead("host-bastide.999999999-0", "host-bastide")
    assert not borg._is_dead("other.999999999-0", "host-bastide")
    assert not borg._is_dead("no lock", "host-bastide")


async def test_how_it_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Confined, with the secret as a descriptor alone."""
    called: list[Sequence[str]] = []

    async def limited(argv: Sequence[str], _secret: int | None, _rate: int, _path: Path) -> Completed:
        called.append(argv)
        return Completed(0, json.dumps({"archive": {"stats": {"original_size": 7}}}).encode(), "")

    monkeypatch.setattr(borg, "_limited", limited)
    secret = tmp_path / "secret"
    secret.write_text("never in an argument")
    repository = borg.Repository(tmp_path / "repository", tmp_path / "base", "host", secret)
    source = borg.Source(
        [confine.Shown("files", "/f"), confine.Shown("root", "/r", [("/srv", "/s")])],
        cache="lxc-100", exclude=["/tmp/?*", "*.log", "/"], comment="lxc 100",
    )  # fmt: skip
    assert await borg.create(repository, "vzdump-lxc-100", source, warned=lambda _line: True) == 7
    (argv,) = called
    assert not any("never" in word for word in argv)
    work = json.loads(argv[argv.index(str(os.getpid())) + 1])
    assert [(tree["name"], tree["writable"]) for tree in work["trees"]] == [
        ("files", False), ("root", False), ("repository", True), ("cache", True),
    ]  # fmt: skip
    command = argv[argv.index(borg.PROGRAM) :]
    assert command == [
        borg.PROGRAM, "--log-json", "--lock-wait", "600", "create", "--numeric-ids", "--noflags", "--json",
        "--files-cache", "ctime,size,inode", "--compression", "lz4", "--comment", "lxc 100",
        "--exclude", "fm:root/tmp/?*", "--exclude", "fm:root/*.log", "--exclude", "fm:root/*/*.log",
        "/repository::vzdump-lxc-100", "files", "root",
    ]  # fmt: skip
