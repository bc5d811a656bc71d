"""`capacity`: told to people, as JSON, and placements from a file."""

import pytest

CAPACITY = {
    "node": "pve1", "kvm": False, "guests": {"ct": 2, "vm": 1},
    "example": {"cores": 1, "memory": 512 << 20, "disk": 4 << 30, "name": "a small guest"},
    "cores": {"total": 8, "used": 0.5, "promised": 4, "spared": 0, "host": 0, "free": 4},
    "memory": {"total": 16 << 30, "used": 4 << 30, "promised": 6 << 30, "spared": 2 << 30, "host": 0, "free": 8 << 30},
    "storages": [
        {"storage": "local", "kinds": ["ct"], "outlook": {"sentence": "in about 41 days at 1.2 GiB a day"},
         "space": {"total": 100 << 30, "used": 9 << 30, "promised": 1, "spared": 0, "host": 0, "free": 50 << 30}}
    ],
    "fits": [
        {"kind": "ct", "count": 4, "limit": "cores", "each": {}, "idle": 800, "emulated": False, "why": "processors",
         "cost": {"memory": 15 << 20, "source": "measured", "taken": "2026-11-23T10:00:00Z"}},
        {"kind": "vm", "count": 0, "limit": "storage", "each": {}, "idle": None, "emulated": True, "cost": None,
         "why": "no storage takes VMs"},
    ],
    "notes": ["this host has no KVM"],
}  # fmt: skip
FILE = """
hosts:
- {name: a, cores: 4, memory: 8G, disk: 100G}
guests:
- {name: x, cores: 1, memory: 1G, host: b}
"""
PLACED = {
    "status": "optimal", "assignment": {"x": "a"}, "moves": [{"guest": "x", "origin": "b", "target": "a"}],
    "moves_bound": 1, "score": 13.9, "score_bound": 13.9, "gap": 0, "clashes": [], "minimal": True, "seconds": 0.1,
}  # fmt: skip


def test_people_are_told_what_fits_and_why(run, daemon):
    daemon.on("GET", "/architect/capacity", CAPACITY)
    ended = run("capacity", "nginx", "--memory", "1G")
    assert ended.code == 0, ended.err
    assert "pve1: 2 containers, 1 VMs" in ended.out
    assert "4 containers: processors" in ended.out
    assert "800 by memory alone if all are idle (15 MiB of memory each, measured 2026-11-23)" in ended.out
    assert "0 VMs (emulated): no storage takes VMs" in ended.out
    assert "local   in about 41 days" in ended.out
    assert "memory  [########===...............----]" in ended.out
    assert "no KVM" in ended.err
    asked = daemon.calls[-1][2]
    assert (asked["service"], asked["memory"], "disk" in asked) == ("nginx", "1G", False)


def test_bars_are_of_one_length(run, daemon):
    daemon.on("GET", "/architect/capacity", CAPACITY)
    bars = [line.partition("[")[2].partition("]")[0] for line in run("capacity").out.splitlines() if "[" in line]
    assert {len(bar) for bar in bars} == {30}


def test_json(run, daemon):
    daemon.on("GET", "/architect/capacity", CAPACITY)
    assert run("capacity", "--json").json == CAPACITY


def test_a_placement_from_a_file(run, daemon, tmp_path):
    daemon.on("POST", "/architect/placement", PLACED)
    file = tmp_path / "cluster.yaml"
    file.write_text(FILE)
    ended = run("capacity", "--placement", str(file))
    assert ended.code == 0, ended.err
    assert "moves: 1 (the fewest possible)" in ended.out
    assert "gap 0.0%" in ended.out
    assert daemon.posted("POST", "/architect/placement")["hosts"][0]["name"] == "a"


def test_what_clashes_is_told_and_fails(run, daemon, tmp_path):
    daemon.on(
        "POST", "/architect/placement", {**PLACED, "status": "infeasible", "assignment": {}, "clashes": ["too few"]}
    )
    file = tmp_path / "cluster.yaml"
    file.write_text(FILE)
    ended = run("capacity", "--placement", str(file))
    assert ended.code == 1
    assert "cannot be placed:\n  too few" in ended.err


@pytest.mark.parametrize(("text", "told"), [(FILE + "- {name: y, cores: 0}\n", "line 6"), ("\xff", "placement")])
def test_a_faulty_file_is_told_by_its_line(run, daemon, tmp_path, text, told):
    file = tmp_path / "cluster.yaml"
    file.write_text(text, encoding="latin-1")
    ended = run("capacity", "--placement", str(file))
    assert ended.code == 2
    assert told in ended.err
    assert run("capacity", "--placement", str(tmp_path / "none.yaml")).code == 3
