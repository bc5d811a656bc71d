"""`plan`, `apply`, `destroy`: what they print, what they ask, and what they refuse."""

from pathlib import Path

import pytest

TEXT = "name: lab\nservices:\n- name: web\n"


def _step(guest: str, action: str, **values: object) -> dict[str, object]:
    base = {
        "plan": "lab", "guest": guest, "service": guest, "action": action, "kind": "ct", "vmid": None, "work": [],
        "differences": [], "reason": "",
    }  # fmt: skip
    return {**base, **values}


def _decision(service: str, **values: object) -> dict[str, object]:
    base = {
        "plan": "lab", "service": service, "line": 3, "guests": [service], "kind": "ct", "os": "debian-12",
        "title": "Debian", "confidence": "moderate", "reason": "a Linux service is a container", "cores": 1,
        "memory": 512 << 20, "disk": 8 << 30, "settings": {}, "installs": False, "warnings": [],
    }  # fmt: skip
    return {**base, **values}


STEPS = [
    _step("web", "create", work=["create", "finish"]),
    _step("db", "change", vmid=101, work=["change"], differences=[
        {"key": "memory", "present": 512, "wanted": 1024, "restart": True},
    ]),
    _step("cache", "drift", vmid=102, work=["finish"], reason="CT 102 is stopped"),
    _step("old", "remove", vmid=103, work=["remove"], reason="not in the plan any more"),
    _step("dns", "keep", vmid=104),
]  # fmt: skip
KNOWN = [
    {"name": "lab", "task": "", "guests": [
        {"name": "web", "service": "web", "vmid": 100, "kind": "ct", "state": "ready", "status": "running"},
    ]},
    {"name": "other", "task": "", "guests": []},
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "homelab.yaml"
    path.write_text(TEXT)
    return str(path)


@pytest.fixture
def planned(daemon):
    decisions = [_decision("web", warnings=["there is no KVM"]), _decision("db")]
    daemon.on("POST", "/architect/plan", [{"name": "lab", "decisions": decisions, "steps": STEPS}])
    daemon.on("GET", "/architect/plans", KNOWN)
    daemon.on("GET", "/bastide/guests", [{"vmid": 100, "addresses": ["10.0.0.7"]}])
    daemon.task("POST", "/architect/apply")
    daemon.task("POST", "/architect/destroy")
    return daemon


def test_plan_reads_like_a_diff(run, planned, file):
    ended = run("plan", file)
    assert ended.code == 0
    lines = [" ".join(line.split()) for line in ended.out.splitlines()]
    assert lines[0] == "lab: 1 to create, 1 to change, 1 unchanged, 1 to remove, 1 changed by others"
    assert "+ web CT debian-12, 1 core, 512 MiB memory, 8 GiB disk" in lines
    assert "~ db CT 101" in lines
    assert "memory: 512 MiB -> 1 GiB (at the next start)" in lines
    assert "! cache CT 102 CT 102 is stopped" in lines
    assert "- old CT 103 not in the plan any more" in lines
    assert "= dns CT 104" in lines
    assert "line 3: web: there is no KVM" in lines
    assert planned.posted("POST", "/architect/plan") == {"text": TEXT}


def test_plan_json_and_copies(run, planned, file):
    assert run("plan", file, "--json", "--copies", "5").json[0]["steps"] == STEPS
    assert planned.posted("POST", "/architect/plan")["copies"] == "5"


def test_plan_without_a_file_lists_the_plans(run, planned):
    lines = [" ".join(line.split()) for line in run("plan").out.splitlines()]
    assert "lab web (running)" in lines
    assert run("plan", "--json").json == KNOWN


def test_the_schema_needs_no_daemon(run, monkeypatch):
    monkeypatch.setenv("BASTIDE_ROOT", "/nowhere")
    assert "services" in run("plan", "--schema").json["properties"]


def test_errors_name_the_file_and_the_line(run, daemon, refusal, file):
    wrong = refusal(400, "Parameter verification failed.", {"line 3: services[0].memory": "say the unit"})
    daemon.on("POST", "/architect/plan", wrong)
    ended = run("apply", file, "--yes")
    assert ended.code == 2
    assert f"{file}: line 3: services[0].memory: say the unit" in ended.err
    assert not daemon.made("POST", "/architect/apply")


def test_apply_tells_where_the_guests_are(run, planned, file):
    ended = run("apply", file)
    assert ended.code == 0
    assert "10.0.0.7" in ended.out
    assert ended.out.splitlines()[-1] == "3 changes"
    assert planned.posted("POST", "/architect/apply") == {"text": TEXT}


def test_apply_removes_nothing_without_being_told_twice(run, planned, file):
    ended = run("apply", file, "--prune")
    assert ended.code == 6
    assert "old would lose their data: add --yes" in ended.err
    assert not planned.made("POST", "/architect/apply")
    assert run("apply", file, "--prune", "--yes").code == 0
    assert planned.posted("POST", "/architect/apply")["prune"] == "1"


def test_apply_asks_on_a_terminal(run, planned, file, monkeypatch):
    monkeypatch.setattr("bastide.cli.session.Session.interactive", True)
    assert run("apply", file, text="n\n").code == 1
    assert not planned.made("POST", "/architect/apply")
    assert run("apply", file, text="y\n").code == 0
    assert planned.made("POST", "/architect/apply")


def test_a_failed_apply_tells_what_failed(run, planned, file):
    planned.task("POST", "/architect/apply", end="1 of 3 failed: web: it broke")
    ended = run("apply", file, "--yes")
    assert ended.code == 1
    assert "web: it broke" in ended.err


@pytest.mark.parametrize("by_name", [True, False])
def test_destroy_lists_what_goes_and_needs_a_yes(run, planned, file, by_name):
    what = "lab" if by_name else file
    ended = run("destroy", what)
    assert ended.code == 6
    assert "- web" in ended.err
    assert not planned.made("POST", "/architect/destroy")
    ended = run("destroy", what, "--yes")
    assert (ended.code, ended.out) == (0, "removed 1 guest\n")
    assert planned.posted("POST", "/architect/destroy") == {"name": "lab"}


def test_destroy_asks_on_a_terminal(run, planned, file, monkeypatch):
    monkeypatch.setattr("bastide.cli.session.Session.interactive", True)
    assert run("destroy", "lab", text="n\n").code == 1
    assert not planned.made("POST", "/architect/destroy")


def test_destroy_of_what_is_not_known(run, planned):
    assert run("destroy", "nothing", "--yes").code == 3
    assert run("destroy", "gone.yaml", "--yes").code == 1


def test_a_file_that_is_no_text(run, planned, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in run("plan", str(path)).err
    path.write_text("  \n")
    assert "is empty" in run("plan", str(path)).err
