"""Backups' names, and what vzdump and its jobs may be asked."""

import json
import string
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.model.backup import BackupName
from bastide.model.backup_options import STANDARD_EXCLUDES, BackupJob, BackupOptions, notes

EXTENSIONS = ["", ".tar", ".tar.gz", ".tar.lzo", ".tar.zst", ".tgz", ".vma", ".vma.gz", ".vma.lzo", ".vma.zst"]


@given(
    kind=st.sampled_from(["lxc", "qemu"]),
    vmid=st.integers(100, 999_999_999),
    taken=st.integers(1_000_000_000, 4_000_000_000),
    extension=st.sampled_from(EXTENSIONS),
)
def test_names_are_read_as_they_are_written(kind: Any, vmid: int, taken: int, extension: str) -> None:
    name = BackupName(kind, vmid, taken, extension)
    read = BackupName.parse(f"backup/{name}")
    assert (read.kind, read.vmid, read.extension, str(read)) == (kind, vmid, extension, str(name))
    assert read.stem == str(name).removesuffix(extension)
    # An hour that the clock shows twice is the same name.
    assert abs(read.time - taken) <= 3600


def test_the_time_in_a_name_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        assert str(BackupName("lxc", 100, 1_795_000_000, ".tar.zst")) == "vzdump-lxc-100-2026_11_18-12_06_40.tar.zst"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "text",
    ["", "vzdump-lxc-99-2026_11_23-01_02_03.tar", "vzdump-lxc-100-2026_13_23-01_02_03.tar", "x.tar.zst",
     "vzdump-lxc-100-2026_11_23-01_02_03.tar.xz", "backup/../vzdump-lxc-100-2026_11_23-01_02_03.tar",
     "vzdump-oci-100-2026_11_23-01_02_03.tar", "vzdump-lxc-100-2026_11_23-01_02_03.tar\n"],
)  # fmt: skip
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="volume"):
        BackupName.parse(text)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"vmid": "5"}, "vmid"),
        ({"vmid": "100,x"}, "vmid"),
        ({"vmid": "100", "all": 1}, "all"),
        ({"vmid": "100", "exclude": "101"}, "exclude"),
        ({"vmid": "100", "pool": "p"}, "pool"),
        ({"all": 1, "pool": "p"}, "pool"),
        ({"dumpdir": "/a/../b"}, "dumpdir"),
        ({"dumpdir": "a"}, "dumpdir"),
        ({"dumpdir": "/a", "storage": "local"}, "dumpdir"),
        ({"dumpdir": "/a", "maxfiles": 2}, "prune-backups"),
        ({"maxfiles": 2, "prune-backups": "keep-last=1"}, "prune-backups"),
        ({"protected": 1}, "protected"),
        ({"notes-template": "x"}, "notes-template"),
        ({"notes-template": "{{user}}", "storage": "local"}, "notes-template"),
        ({"webhook": "http://host/x"}, "webhook"),
        ({"webhook": "https:///x"}, "webhook"),
        ({"mailto": "-oQ/tmp"}, "mailto"),
        ({"ionice": 9}, "ionice"),
        ({"mode": "fast"}, "mode"),
        ({"compress": "xz"}, "compress"),
        ({"performance": "max-workers=0"}, "performance"),
        ({"exclude-path": ["a\nb"]}, "exclude-path"),
        ({"size": 1024}, "size"),
    ],
)
def test_what_cannot_be_is_named(values: dict[str, Any], key: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        BackupOptions.parse(values)
    assert list(refused.value.errors) == [key]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"webhook": "http://host/x"}, "begins with https://"),
        ({"id": "x"}, "a letter, and then"),
        ({"dumpdir": "a"}, "/ first"),
    ],
)
def test_what_would_do_is_told_in_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidParameter, match=told):
        BackupJob.parse(values)


def test_a_selection_is_needed() -> None:
    with pytest.raises(InvalidParameter, match="vmid"):
        BackupOptions.parse({"mode": "stop"}).check_selection()
    for values in ({"vmid": "100"}, {"all": 1}, {"exclude": "101"}, {"pool": "p"}, {"stop": 1}):
        BackupOptions.parse(values).check_selection()
    assert BackupOptions.parse({"exclude": "101"}).every
    assert not BackupOptions.parse({"exclude": "101", "pool": "p"}).every


def test_old_words_mean_the_new_ones() -> None:
    options = BackupOptions.parse({"vmid": "101, 100;101", "compress": "1", "maxfiles": 3, "exclude-path": ["/x"]})
    assert (options.vmids, options.compression, str(options.keep)) == ((101, 100), "lzo", "keep-last=3")
    assert options.excludes == ("/x", *STANDARD_EXCLUDES)
    assert BackupOptions.parse({"stdexcludes": 0}).excludes == ()


def test_a_job_is_stored_and_read_and_runs_as_vzdump() -> None:
    values = {
        "id": "nightly", "schedule": "sat 02:30", "all": 1, "exclude-path": ["/srv/cache", "*.tmp"], "mode": "snapshot",
        "storage": "local", "prune-backups": "keep-daily=7", "notes-template": "{{guestname}}", "enabled": 0,
        "repeat-missed": 1, "fleecing": "enabled=1,storage=fast",
    }  # fmt: skip
    job = BackupJob.parse(values)
    stored = json.loads(json.dumps(job.to_stored()))
    assert {key: stored[key] for key in values} == {**values, "fleecing": "1,storage=fast"}
    assert BackupJob.parse(stored) == job
    options = job.options()
    assert (options.every, options.exclude_path, str(options.keep)) == (True, ["/srv/cache", "*.tmp"], "keep-daily=7")
    assert "schedule" not in options.given
    with pytest.raises(InvalidParameter, match="schedule"):
        BackupJob.parse({"schedule": "daily", "starttime": "02:30"})
    with pytest.raises(InvalidParameter, match="dow"):
        BackupJob.parse({"dow": "mon"})


def test_notes_are_made_of_a_template() -> None:
    values = {"guestname": "web {{vmid}}", "vmid": "100", "node": "pve", "cluster": ""}
    assert notes(r"{{guestname}} on {{ node }}\nno\\n{{vmid}}", values) == "web {{vmid}} on pve\nno\\n100"


@given(st.text(string.printable, max_size=80))
def test_any_template_gives_notes_or_is_refused(text: str) -> None:
    values = {"guestname": "a", "vmid": "1", "node": "b", "cluster": "c"}
    try:
        options = BackupOptions.parse({"storage": "local", "notes-template": text})
    except InvalidParameter:
        return
    assert isinstance(notes(options.notes_template or "", values), str)
