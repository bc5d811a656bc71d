"""`bastide review`: findings by guest, with commands to copy."""

import pytest

FINDING = {
    "id": "memory-too-big", "vmid": 100, "guest": "web", "kind": "ct", "severity": "waste",
    "finding": "of 1 GiB of memory it used 100 MiB", "effect": "832 MiB for other guests",
    "saving": {"memory": 832 << 20, "cores": 0, "disk": 0}, "commands": ["bastide set web memory=192"],
    "how": "a container takes it at once", "since": 1_700_000_000, "samples": 40, "confidence": "moderate",
}  # fmt: skip
GUEST = {
    "vmid": 100, "name": "web", "kind": "ct", "running": True, "samples": 40, "needed": 34, "since": 1_700_000_000,
    "unknown": [], "findings": [FINDING],
}  # fmt: skip
REVIEW = {
    "window": "week", "taken": 1_700_100_000, "saving": {"memory": 832 << 20, "cores": 3, "disk": 0}, "guests": [GUEST],
}  # fmt: skip


@pytest.fixture
def reviewed(daemon):
    daemon.on("GET", "/architect/review", REVIEW)
    return daemon


def test_findings_are_told_and_no_failure(run, reviewed):
    ended = run("review")
    assert ended.code == 0
    lines = ended.out.splitlines()
    assert lines[0].startswith("web (CT 100, 40 samples since ")
    assert lines[1] == "waste    of 1 GiB of memory it used 100 MiB (moderate confidence)"
    assert lines[2].strip() == "saves 832 MiB for other guests"
    assert lines[3].strip() == "$ bastide set web memory=192"
    assert lines[-1] == "to be saved: 832 MiB of memory and 3 processors"
    assert reviewed.calls[-1] == ("GET", "/architect/review", {"window": "week"})


def test_commands_repeat_the_root_that_was_given(run, reviewed, root):
    assert f"$ bastide --root {root} set web memory=192" in run("review", "--root", str(root)).out


def test_one_guest_over_a_window(run, reviewed):
    assert run("review", "web", "--window", "hour", "--json").json == REVIEW
    assert reviewed.calls[-1][2] == {"window": "hour", "guest": "web"}
    assert run("review", "--window", "decade").code == 2


def test_what_is_not_known_is_told(run, daemon):
    text = "not enough samples to judge its size: 3 over the last week, 34 are needed"
    guest = {**GUEST, "findings": [], "unknown": [text], "samples": 0, "since": None}
    daemon.on("GET", "/architect/review", {**REVIEW, "guests": [guest], "saving": {"memory": 0, "cores": 0}})
    out = run("review").out
    assert f"unknown  {text}" in out
    assert "to be saved" not in out


def test_nothing_that_guests_name_moves_the_cursor(run, daemon):
    bad = {**FINDING, "finding": "mounts /srv/\x1b[2J", "commands": ["bastide \x1b[2J"]}
    daemon.on("GET", "/architect/review", {**REVIEW, "guests": [{**GUEST, "name": "x\x1b[2Jy", "findings": [bad]}]})
    assert "\x1b" not in run("review").out
