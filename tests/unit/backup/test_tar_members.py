"""Members of a tar stream, found by the helper that runs in the sandbox."""

import io
import json
import subprocess
import sys
import tarfile
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bastide.backup import tar_members

_NAMES = st.lists(
    st.text(st.characters(exclude_characters="/\x00", exclude_categories=("Cs",)), min_size=1, max_size=12).filter(
        lambda part: part not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)


def _packed(*members: tuple[str, bytes | str | None]) -> bytes:
    """A tar stream: a file's bytes, a symbolic link's target, `=` and a hard link's, or None for a folder."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            elif isinstance(content, bytes):
                info.size = len(content)
            else:
                info.type = tarfile.LNKTYPE if content.startswith("=") else tarfile.SYMTYPE
                info.linkname = content.removeprefix("=")
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return made.getvalue()


def _run(act: str, path: str, stream: bytes) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-I", "-S", tar_members.__file__, act, path]
    return subprocess.run(argv, input=stream, capture_output=True, check=False, timeout=60)


_GUEST = _packed(
    ("./", None),
    ("./etc/vzdump/", None),
    ("./etc/vzdump/pct.conf", b"arch: amd64\n"),
    ("./etc/", None),
    ("./etc/hostname", b"one\n"),
    ("./etc/alias", "=./etc/hostname"),
    ("./etc/link", "hostname"),
    ("./srv/deep/er/file", b"x" * 3000),
    ("../outside", b"no"),
)


def test_a_folder_is_listed_without_what_lies_deeper_and_what_is_not_the_guests() -> None:
    done = _run("list", "", _GUEST)
    found = {row["name"]: row["type"] for row in map(json.loads, done.stdout.splitlines())}
    assert (done.returncode, found) == (0, {"etc": "d", "srv": "d"})
    rows = [json.loads(line) for line in _run("list", "/etc/", _GUEST).stdout.splitlines()]
    assert {row["name"]: (row["type"], row["size"]) for row in rows} == {
        "hostname": ("f", 4), "alias": ("h", 0), "link": ("l", 0),
    }  # fmt: skip
    assert [json.loads(line)["name"] for line in _run("list", "srv", _GUEST).stdout.splitlines()] == ["deep"]


def test_a_folder_of_very_many_entries_is_not_listed_to_its_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is told lies in a file of the host's for a moment; no file system has names of that length."""
    monkeypatch.setattr(tar_members, "LISTED", 10)
    stream = _packed(("y" * 5000, b""), *((f"./{number}", b"") for number in range(20)))
    tar_members.main(io.BytesIO(stream), "list", "")
    assert [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()] == [*map(str, range(11))]


@pytest.mark.parametrize(
    ("act", "path", "target"),
    [
        ("file", "etc/link", "etc/hostname"),
        ("list", "bin/", "usr/bin"),
        ("tar", "bin", "usr/bin"),
        ("file", "bin/ls", "usr/bin/ls"),
        ("file", "srv/up/x", "x"),
        ("file", "srv/bin", None),
    ],
)
def test_a_symbolic_link_on_the_way_says_where_it_leads(act: str, path: str, target: str | None) -> None:
    links = ("./bin", "usr/bin"), ("./etc/link", "hostname"), ("./srv/up", "../../.."), ("./srv/bin", b"1")
    done = _run(act, path, _packed(*links))
    said = "" if target is None else f"symlink {target}\n"
    assert (done.returncode, done.stderr.decode()) == (0 if target is None else tar_members.OTHER_KIND, said)


@pytest.mark.parametrize(
    ("act", "path", "code"),
    [
        ("list", "nowhere", tar_members.NOT_FOUND),
        ("list", "etc/hostname", tar_members.OTHER_KIND),
        ("file", "etc", tar_members.OTHER_KIND),
        ("file", "etc/link", tar_members.OTHER_KIND),
        ("file", "outside", tar_members.NOT_FOUND),
        ("file", "etc/vzdump/pct.conf", tar_members.NOT_FOUND),
        ("zip", "etc/none", tar_members.NOT_FOUND),
        ("tar", "etc/hostname", tar_members.OTHER_KIND),
    ],
)
def test_what_is_not_there_or_no_such_thing_is_told_by_the_exit_code(act: str, path: str, code: int) -> None:
    assert _run(act, path, _GUEST).returncode == code


def test_a_file_comes_out_and_a_hard_link_says_what_it_is() -> None:
    assert _run("file", "etc/hostname", _GUEST).stdout == b"one\n"
    assert _run("file", "etc/alias", _GUEST).stderr == b"link etc/hostname\n"


def test_a_folder_comes_out_as_tar_and_as_zip() -> None:
    with tarfile.open(fileobj=io.BytesIO(_run("tar", "etc", _GUEST).stdout)) as archive:
        assert {m.name: m.linkname for m in archive} == {
            ".": "",
            "hostname": "",
            "alias": "hostname",
            "link": "hostname",
        }
    with zipfile.ZipFile(io.BytesIO(_run("zip", "", _GUEST).stdout)) as made:
        assert made.testzip() is None
        assert {"etc/hostname", "etc/link", "srv/deep/er/file"} <= set(made.namelist())
        assert made.read("srv/deep/er/file") == b"x" * 3000
        assert not any(".." in name or name.startswith("/") for name in made.namelist())


def test_a_damaged_stream_is_an_error_in_words() -> None:
    for cut in (1, 300, 700, 2000):
        done = _run("zip", "", _GUEST[:cut])
        assert done.returncode in (1, tar_members.NOT_FOUND) or b"srv" not in done.stdout
    garbage = _run("list", "", b"\x07garbage" * 200)
    assert garbage.returncode == 1
    assert b"the archive cannot be read" in garbage.stderr


@given(files=st.dictionaries(_NAMES, st.binary(max_size=100), min_size=1, max_size=6))
@settings(max_examples=100)
def test_each_file_is_found_where_it_is(files: dict[str, bytes]) -> None:
    whole = {name: data for name, data in files.items() if not any(f"{name}/" in f"{n}/" and n != name for n in files)}
    stream = _packed(*whole.items())
    with tarfile.open(fileobj=io.BytesIO(stream), mode="r|") as archive:
        members = list(tar_members._members(archive))
    for name in whole:
        folder, _, last = name.rpartition("/")
        listed = list(tar_members.listing(iter(members), folder))
        assert last in [row["name"] for row in listed]
