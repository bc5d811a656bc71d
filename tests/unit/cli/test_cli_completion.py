"""Completion as a shell sees it: our script, our answers, the guests' names from the daemon."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
eval "$(bastide completion bash)"
COMP_WORDS=({words} '{last}'); COMP_CWORD={index}
_bastide_completion bastide
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def complete(root):
    """What bash offers for a command line."""
    folder = root / "bin"
    folder.mkdir()
    (folder / "bastide").write_text(f'#!/bin/sh\nexec {sys.executable} -m bastide "$@"\n')
    (folder / "bastide").chmod(0o755)
    env = {**os.environ, "BASTIDE_ROOT": str(root), "PATH": f"{folder}:{os.environ['PATH']}"}
    env.pop("BASTIDE_API", None)

    def ask(words: str, last: str) -> list[str]:
        script = SCRIPT.format(words=words, last=last, index=len(words.split()))
        ended = subprocess.run(["bash", "-c", script], env=env, capture_output=True, timeout=60, check=True, text=True)
        assert ended.stderr == ""
        return ended.stdout.split()

    return ask


def test_commands_and_options(complete):
    assert complete("bastide", "st") == ["status", "start", "stop", "storage"]
    assert "--password-stdin" in complete("bastide launch", "--p")


def test_names_of_guests_and_nothing_without_a_daemon(complete, daemon):
    rows = [{"vmid": 100, "name": "web"}, {"vmid": 101, "name": "wiki"}, {"vmid": 102, "name": "db"}]
    daemon.on("GET", "/cluster/resources", rows)
    assert complete("bastide stop", "w") == ["web", "wiki"]
    assert complete("bastide exec", "10") == ["100", "101", "102"]
    daemon.answers.clear()
    assert complete("bastide stop", "w") == []


def test_what_belongs_to_the_guest_that_was_typed(complete, daemon):
    daemon.on("GET", "/cluster/resources", [{"vmid": 100, "name": "web", "node": "pve1", "type": "lxc"}])
    daemon.on("GET", "/nodes/pve1/lxc/100/snapshot", [{"name": "before"}, {"name": "current"}])
    daemon.on("GET", "/nodes/pve1/lxc/100/config", {"rootfs": "local:1", "mp0": "local:2", "memory": 1})
    assert complete("bastide rollback web", "") == ["before"]
    assert complete("bastide snapshot web", "b") == ["before"]
    assert complete("bastide move web", "") == ["mp0", "rootfs"]
    assert complete("bastide resize web", "r") == ["rootfs"]
    assert complete("bastide rollback other", "") == []


def test_disks_and_types_of_storages(complete, daemon):
    daemon.on("GET", "/nodes", [{"node": "pve1"}])
    daemon.on("GET", "/nodes/pve1/disks/list", [{"devpath": "/dev/sda"}, {"devpath": "/dev/sdb"}])
    assert complete("bastide disks wipe", "/dev/sdb") == ["/dev/sdb"]
    assert complete("bastide storage add x", "lvm") == ["lvm", "lvmthin"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(run, shell):
    assert "_BASTIDE_COMPLETE" in run("completion", shell).out
