"""Closing the images that no drive uses any more."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from bastide.guest.qemu import nodes
from bastide.guest.qemu.runtime import Vm
from bastide.host.qmp import CommandRefused


class Monitor:
    """A QEMU whose device lets go of its node a moment after it said that it is gone."""

    def __init__(self, *names: str, refusals: int) -> None:
        self.names, self.refusals = list(names), refusals

    async def execute(self, command: str, arguments: dict[str, Any] | None = None, **_: Any) -> Any:
        if command == "query-named-block-nodes":
            return [{"node-name": name} for name in self.names]
        if command == "query-fdsets":
            return []
        assert command == "blockdev-del"
        assert arguments is not None
        if self.refusals:
            self.refusals -= 1
            raise CommandRefused("blockdev-del", "GenericError", "Node is in use")
        self.names.remove(arguments["node-name"])
        return {}


@pytest.mark.anyio
async def test_an_image_that_is_still_held_is_closed_a_moment_later() -> None:
    monitor = Monitor("drive-scsi1", "drive-scsi1-copy", "drive-scsi10", refusals=3)
    await nodes.remove_nodes(cast(Vm, SimpleNamespace(monitor=monitor)), "scsi1")
    assert monitor.names == ["drive-scsi10"]


@pytest.mark.anyio
async def test_an_image_that_stays_held_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "_ATTEMPTS", 3)
    monitor = Monitor("drive-scsi1", refusals=1000)
    await nodes.remove_nodes(cast(Vm, SimpleNamespace(monitor=monitor)), "scsi1")
    assert monitor.names == ["drive-scsi1"]
