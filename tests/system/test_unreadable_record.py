"""A record of the state that somebody damaged, on a real host: its guest runs on, and all others are as they were."""

import json
import sqlite3
from pathlib import Path

import pytest

from framework.host import ApiFailure, Host

pytestmark = pytest.mark.system


def damage(host: Host, key: str, value: str) -> str:
    """Write over a record in the file of a stopped daemon; returns what was there."""
    with sqlite3.connect(host.root / "state/bastide.db") as connection:
        (before,) = connection.execute("SELECT value FROM entry WHERE key = ?", (key,)).fetchone()
        connection.execute("UPDATE entry SET value = ? WHERE key = ?", (value, key))
    connection.close()
    return str(before)


def test_one_damaged_record_hides_no_other_guest(own_host: Host) -> None:
    """Without `CheckedStore` in daemon/build.py the daemon does not start again, and this fails."""
    host = own_host
    running, other = host.create(start=True), host.create()
    pid = host.get(host.path(running, "/status/current"))["pid"]
    host.stop()
    good = damage(host, f"guest/{running}", '{"kind": "lxc", "config": [tor')
    host.start()
    assert [guest["vmid"] for guest in host.get(f"/nodes/{host.node}/lxc")] == [other]
    assert Path(f"/proc/{pid}").exists(), "the guest of the damaged record runs on"
    host.act(other, "start")
    with pytest.raises(ApiFailure, match=f"guest/{running} cannot be read"):
        host.get(host.path(running, "/config"))
    assert host.get("/cluster/nextid") not in (str(running), str(other))
    with pytest.raises(ApiFailure):
        host.get("/cluster/nextid", vmid=running)
    told = host.cli("record", "list").stdout
    assert f"guest/{running}" in told
    assert f"guest/{other}" not in told
    assert f"guest/{running}" in host.cli("doctor", check=False).stdout
    (volume,) = [row for row in host.get(f"/nodes/{host.node}/storage/local/content") if row.get("vmid") == running]
    with pytest.raises(ApiFailure, match="cannot be read"):
        host.delete(f"/nodes/{host.node}/storage/local/content/{volume['volid']}")

    bad = host.cli("record", "repair", f"guest/{running}", input="[]", check=False)
    assert bad.returncode != 0
    host.cli("record", "repair", f"guest/{running}", input=json.dumps(json.loads(good)))
    assert host.get(host.path(running, "/status/current"))["pid"] == pid
    assert host.cli_json("record", "list") == []


def test_nobody_else_writes_while_the_daemon_runs(host: Host) -> None:
    """What was read at the start therefore stays readable: SQLite's file is the daemon's alone."""
    connection = sqlite3.connect(host.root / "state/bastide.db", timeout=0.1)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        connection.execute("UPDATE entry SET value = ''")
    connection.close()
