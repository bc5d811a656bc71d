"""A daemon whose folder is removed under it, or that was killed before: nothing of it stays on the host."""

import os
import shutil
from pathlib import Path

import pytest

from bastide.base.layout import Layout
from bastide.host import links, processes
from framework.host import Host

pytestmark = pytest.mark.system


@pytest.fixture
def lost():
    """A host of its own, whose folder the test removes."""
    with Host.launched(71) as host:
        yield host


def _traces(host: Host) -> list[str]:
    """What the host system still has of it."""
    name = Layout(host.root).instance
    left = [str(path) for path in Path("/run").glob(f"{name}-*")]
    left += [host.bridge] if links.exists(host.bridge) else []
    return left + [str(pid) for pid in processes.find(lambda argv: any(name.encode() in word for word in argv))]


def test_the_daemon_ends_with_its_folder(lost):
    assert _traces(lost)
    shutil.rmtree(lost.root)
    assert lost.process.wait(timeout=60) == 0
    assert _traces(lost) == []


def test_down_finds_a_daemon_whose_folder_is_gone(lost):
    lost.process.send_signal(19)  # SIGSTOP: it cannot end by itself meanwhile
    shutil.rmtree(lost.root)
    lost.process.send_signal(18)
    assert "the daemon has ended" in lost.cli("down", "--purge", "--yes").stdout
    assert lost.process.wait(timeout=5) == 0
    assert _traces(lost) == []


def test_down_removes_what_a_killed_one_left(lost):
    lost.process.kill()
    lost.process.wait()
    shutil.rmtree(lost.root)
    assert _traces(lost)
    lost.cli("down", "--purge", "--yes")
    assert _traces(lost) == []
    assert not os.path.lexists(lost.root)
