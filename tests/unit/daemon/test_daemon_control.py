"""`up` and `down` where it matters that they say no: a taken port, a stale process id, a daemon that dies at once."""

import os
import socket
import subprocess
import sys
from typing import ClassVar

import pytest

from bastide.base.errors import DeadlineExceeded, HostFailure, InvalidParameter, NotFound, PermissionDenied, WrongState
from bastide.base.layout import Layout
from bastide.cli.hosting import DownRequest, UpRequest
from bastide.daemon import control

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="up and down are for root")


@pytest.fixture
def layout(tmp_path):
    (tmp_path / "run").mkdir()
    return Layout(tmp_path)


def test_a_taken_port_is_refused_before_anything_starts(layout):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(HostFailure, match=f"port {port} is taken.*--port"):
            control.up(layout, UpRequest(port=port))
    assert not layout.state.exists()


def test_a_port_that_is_none(layout):
    with pytest.raises(InvalidParameter):
        control.up(layout, UpRequest(port=70000))


def test_only_root(layout, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for call in (lambda: control.up(layout, UpRequest()), lambda: control.down(layout, DownRequest())):
        with pytest.raises(PermissionDenied, match="sudo"):
            call()


def test_a_process_that_is_not_the_daemon_is_never_signalled(layout):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        layout.pid_file.write_text(str(other.pid))
        report = control.down(layout, DownRequest())
        assert not report.stopped
        assert other.poll() is None
        other.communicate(b"\n")
    for text in ("", "x", "-1", "0", str(2**40)):
        layout.pid_file.write_text(text)
        assert control.daemon_pid(layout) is None


def test_a_daemon_that_dies_at_once_tells_its_last_words(layout):
    layout.state.mkdir()
    (layout.state / "bastide.db").write_bytes(b"this is no database" * 1000)
    with pytest.raises(HostFailure, match="could not start") as caught:
        control.up(layout, UpRequest())
    assert str(layout.logs / "daemon.log") in str(caught.value)


def test_a_daemon_that_was_only_started_to_be_removed_does_not_stay(layout, monkeypatch):
    layout.state.mkdir()
    (layout.state / "bastide.db").touch()
    daemon = [sys.executable, "-c", "import time; time.sleep(60)", "-m", "bastide.daemon", "--root", str(layout.root)]
    with subprocess.Popen(daemon) as started:

        def silent(*_):
            raise DeadlineExceeded("does not answer")

        monkeypatch.setattr(control, "up", silent)
        with pytest.raises(DeadlineExceeded):
            control.down(layout, DownRequest(purge=True, force=True))
        assert started.wait(10) < 0


@pytest.mark.parametrize("request_", [UpRequest(port=9000), UpRequest(node="other")])
def test_a_running_daemon_is_not_changed_silently(layout, monkeypatch, request_):
    status = {"node": "pve1", "port": 8006, "version": "1", "address": "192.0.2.1"}
    monkeypatch.setattr(control, "_status", lambda _: status)
    with pytest.raises(WrongState, match="bastide down"):
        control.up(layout, request_)
    report = control.up(layout, UpRequest(port=8006))
    assert (report.started, report.url) == (False, "https://192.0.2.1:8006")


def test_force_destroys_guests_of_both_kinds_by_the_methods_they_have():
    class Client:
        """Notes what is asked of it; every task has ended."""

        calls: ClassVar[list[tuple[object, ...]]] = []

        def get(self, path, **_parameters):
            if path != "/cluster/resources":
                return {"status": "stopped", "exitstatus": "OK"}
            kinds = [(100, "lxc", "running"), (101, "qemu", "running"), (102, "qemu", "stopped")]
            return [{"vmid": vmid, "type": kind, "node": "pve", "status": state} for vmid, kind, state in kinds]

        def post(self, path, _parameters=None):
            self.calls.append(("POST", path))
            return "UPID:pve:00000001:00000001:00000001:qmstop:101:root@pam:"

        def delete(self, path, **parameters):
            self.calls.append((path, {key: value for key, value in parameters.items() if value is not None}))
            return "UPID:pve:00000001:00000001:00000001:qmdestroy:101:root@pam:"

    with pytest.raises(WrongState, match="3 guests exist"):
        control._destroy_guests(Client(), DownRequest(purge=True))
    assert Client.calls == []
    assert len(control._destroy_guests(Client(), DownRequest(purge=True, force=True))) == 3
    assert Client.calls == [
        ("/nodes/pve/lxc/100", {"force": True, "purge": True}),
        ("POST", "/nodes/pve/qemu/101/status/stop"),
        ("/nodes/pve/qemu/101", {"purge": True}),
        ("/nodes/pve/qemu/102", {"purge": True}),
    ]


def test_a_guest_that_has_gone_meanwhile_is_no_obstacle():
    class Client:
        def get(self, _path, **_parameters):
            return [{"vmid": 910000000, "type": "qemu", "node": "pve", "status": "running"}]

        def post(self, _path):
            raise NotFound("Configuration file 'nodes/pve/qemu-server/910000000.conf' does not exist")

    assert control._destroy_guests(Client(), DownRequest(purge=True, force=True)) == ["destroyed  (910000000)"]


def test_templates_go_after_their_linked_clones():
    class Client:
        """100 is a template, 101 a linked clone of it and a template itself, 102 a linked clone of that one."""

        def __init__(self, stuck: bool) -> None:
            self.there = {100, 101, 102}
            self.stuck = stuck

        def get(self, path, **_parameters):
            if path != "/cluster/resources":
                return {"status": "stopped", "exitstatus": self.end}
            return [{"vmid": vmid, "type": "lxc", "node": "pve", "status": "stopped"} for vmid in sorted(self.there)]

        def delete(self, path, **_parameters):
            vmid = int(path.rpartition("/")[2])
            used = vmid + 1 in self.there or (self.stuck and vmid == 101)
            self.end = "base volume is still in use by linked clones" if used else "OK"
            self.there -= set() if used else {vmid}
            return "UPID:pve:00000001:00000001:00000001:vzdestroy:100:root@pam:"

    client = Client(stuck=False)
    assert len(control._destroy_guests(client, DownRequest(purge=True, force=True))) == 3
    assert not client.there
    with pytest.raises(HostFailure, match="guest 100 cannot be destroyed: base volume"):
        control._destroy_guests(Client(stuck=True), DownRequest(purge=True, force=True))


def test_doctor_tells_how_storages_of_a_running_daemon_share(layout, monkeypatch):
    monkeypatch.setattr("bastide.host.doctor.doctor", lambda _layout: [])
    assert control.doctor(layout) == []
    rows = [{"storage": "local", "type": "btrfs", "copy-on-write": "snapshots"}, {"storage": "thick", "type": "lvm"}]
    monkeypatch.setattr(control.Client, "get", lambda _self, path: [] if path.endswith("/records") else rows)
    local, thick = control.doctor(layout)
    assert (local.name, local.ok) == ("storage local", "ok")
    assert local.message == "btrfs: guests share what they were made of: snapshots"
    assert thick.message == "lvm: every guest gets a copy"
    rows[1]["lacks"] = "lvs"
    _, lacking, _ = control.doctor(layout)
    assert (lacking.name, lacking.ok, lacking.advice) == ("storage thick", "warn", "apt-get install lvm2")
    assert lacking.message == "lvm, inactive: lvs is not installed on this host"


@pytest.mark.parametrize(
    ("words", "serves"),
    [
        (["--root", "{root}"], True),
        (["--root={root}", "--port", "8106"], True),
        (["--root", "{root}/run/.."], True),
        (["--root", "{root}/run"], False),
        (["--port", "8106"], False),
    ],
)
def test_a_daemon_is_known_by_its_command_line(layout, words, serves):
    code = "import sys; print(flush=True); sys.stdin.read()"
    arguments = [sys.executable, "-c", code, "-m", "bastide.daemon", *(word.format(root=layout.root) for word in words)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert control.daemon_pid(layout) is None
        assert control._found_pid(layout) == (other.pid if serves else None)
        other.communicate()
    assert control._found_pid(layout) is None
