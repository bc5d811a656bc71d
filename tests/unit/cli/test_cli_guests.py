"""The commands on guests: what they ask the API for, what they print, how they end."""

import pytest

ROWS = [
    {"vmid": 101, "name": "db", "type": "lxc", "status": "stopped", "maxcpu": 2, "maxmem": 2**30, "mem": 0},
    {
        "vmid": 100, "name": "web", "type": "lxc", "status": "running", "maxcpu": 4, "maxmem": 2**29, "mem": 2**27,
        "uptime": 3725,
    },
]  # fmt: skip


@pytest.fixture
def guests(daemon):
    daemon.on("GET", "/cluster/resources", ROWS)
    daemon.on("GET", "/bastide/guests", [{"vmid": 100, "addresses": ["10.0.0.7", "fd00::7"]}])
    daemon.guest(100, "web", "running")
    daemon.guest(101, "db")
    return daemon


def test_ls_is_a_table_by_id(run, guests):
    ended = run("ls")
    assert ended.code == 0
    heading, _, web, db = [line.split() for line in ended.out.splitlines()]
    assert heading == ["id", "name", "kind", "status", "cores", "memory", "address", "uptime"]
    assert web == ["100", "web", "CT", "running", "4", "128", "MiB", "/", "512", "MiB", "10.0.0.7", "+1", "1h", "2m"]
    assert db == ["101", "db", "CT", "stopped", "2", "1", "GiB"]


def test_ls_json_has_every_field_and_the_addresses(run, guests):
    rows = run("ls", "--json").json
    assert [row["vmid"] for row in rows] == [100, 101]
    assert rows[0]["addresses"] == ["10.0.0.7", "fd00::7"]
    assert rows[0]["mem"] == 2**27


def test_json_and_root_stand_before_or_after_the_command(run, guests, root, monkeypatch):
    monkeypatch.delenv("BASTIDE_ROOT")
    assert run("--root", str(root), "--json", "ls").json == run("ls", "--root", str(root), "--json").json


def test_names_from_guests_cannot_move_the_cursor(run, daemon):
    daemon.on("GET", "/cluster/resources", [{**ROWS[0], "name": "x\x1b[2Jy"}])
    assert "\x1b" not in run("ls").out


def test_an_empty_list_says_how_to_begin(run, daemon):
    daemon.on("GET", "/cluster/resources", [])
    ended = run("ls")
    assert (ended.code, ended.out) == (0, "")
    assert "bastide launch debian-12 web" in ended.err
    assert run("ls", "--json").json == []


@pytest.mark.parametrize("verb", ["start", "stop", "shutdown", "reboot"])
def test_power_waits_for_its_task(run, guests, verb):
    guests.task("POST", f"/nodes/pve1/lxc/101/status/{verb}")
    assert run(verb, "db").code == 0
    assert guests.made("POST", f"/nodes/pve1/lxc/101/status/{verb}")


def test_a_failed_task_is_the_error_and_its_exit_code(run, guests):
    guests.task("POST", "/nodes/pve1/lxc/101/status/start", end="can't lock guest 101: UPID:x (vzcreate) works on it")
    ended = run("start", "101")
    assert ended.code == 6
    assert ended.err.startswith("error: can't lock guest 101")
    assert "bastide task ls" in ended.err


def test_no_wait_prints_the_task(run, guests):
    upid = guests.task("POST", "/nodes/pve1/lxc/101/status/start", end="never asked")
    assert run("start", "db", "--no-wait").out == upid + "\n"
    assert run("start", "db", "--no-wait", "--json").json == [{"vmid": 101, "name": "db", "upid": upid}]


def test_one_failure_does_not_keep_the_others_from_their_turn(run, guests):
    guests.task("POST", "/nodes/pve1/lxc/101/status/start")
    ended = run("start", "nobody", "db")
    assert ended.code == 3
    assert guests.made("POST", "/nodes/pve1/lxc/101/status/start")


def test_rm_refuses_a_running_guest_without_force(run, guests):
    ended = run("rm", "web")
    assert ended.code == 6
    assert "add --force" in ended.err
    assert not guests.made("DELETE", "/nodes/pve1/lxc/100")
    guests.task("DELETE", "/nodes/pve1/lxc/100")
    assert run("rm", "web", "--force").code == 0
    assert guests.posted("DELETE", "/nodes/pve1/lxc/100") == {"force": "1", "purge": "1"}


def test_config_prints_pairs_and_set_sends_changes(run, guests):
    guests.on("GET", "/nodes/pve1/lxc/100/config", {"memory": 512, "hostname": "web", "digest": "0" * 40})
    guests.on("GET", "/nodes/pve1/lxc/100/pending", [{"key": "memory", "value": 512}, {"key": "tty", "pending": 1}])
    guests.on("PUT", "/nodes/pve1/lxc/100/config", None)
    assert run("config", "web").out == "hostname:  web\nmemory:    512\n"
    ended = run("set", "web", "memory=1024", "net0=name=eth0,bridge=b", "--delete", "tags", "--delete", "onboot")
    assert guests.posted("PUT", "/nodes/pve1/lxc/100/config") == {
        "memory": "1024",
        "net0": "name=eth0,bridge=b",
        "delete": "tags,onboot",
    }
    assert ended.err == "tty waits for the next start: 1\n"


@pytest.mark.parametrize("args", [["set", "web"], ["set", "web", "memory"], ["config"], ["ls", "--nonsense"], ["lss"]])
def test_wrong_usage_ends_with_2(run, guests, args):
    assert run(*args).code == 2


def test_a_mistyped_command_is_told_its_neighbours(run):
    assert "'launch'" in run("lanch").err
