"""`storage rescan`: what is asked of the API, and what is said of the answer."""

import json

ROWS = [
    {"what": "unused", "vmid": 100, "key": "unused0", "volume": "local:100/vm-100-disk-3.raw"},
    {"what": "size", "vmid": 101, "key": "scsi0", "volume": "local:101/a.raw", "before": 1 << 30, "after": 2 << 30},
    {"what": "size", "vmid": 101, "key": "scsi1", "volume": "local:101/b.raw", "after": 2 << 30},
    {"what": "problem", "problem": "storage 'far' does not answer"},
]


def test_everything_and_what_was_found(run, daemon):
    daemon.on("POST", "/bastide/rescan", ROWS)
    ended = run("storage", "rescan", "--dry-run")
    assert daemon.posted("POST", "/bastide/rescan") == {"dry-run": "1"}
    assert ended.code == 0
    for words in ("was named by nobody", "1 GiB is 2 GiB", "no size is 2 GiB", "storage 'far' does not answer"):
        assert words in ended.out
    assert json.loads(run("storage", "rescan", "--json").out) == ROWS


def test_one_guest_by_its_name(run, daemon):
    daemon.guest(100, "web")
    daemon.on("POST", "/bastide/rescan", [])
    ended = run("storage", "rescan", "web")
    assert daemon.posted("POST", "/bastide/rescan") == {"vmid": "100", "dry-run": "0"}
    assert "every size is right" in ended.out + ended.err
