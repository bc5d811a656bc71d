"""Whatever is done to containers' volumes one after the other, each holds what a simple model says."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from bastide.base.errors import WrongState
from bastide.base.units import MIB
from bastide.host.filesystems import mounts_within
from framework.disposable import Disposable
from framework.storages import made

pytestmark = pytest.mark.system

SIZE = 16 * MIB
KEY = "0123456789abcdef"
TEXTS = st.sampled_from(["one", "two", "three"])
SNAPSHOTS = st.sampled_from(["aa", "bb"])


class Histories(RuleBasedStateMachine):
    """Containers of one storage; `told` is what each has in its file now, `kept` what at its snapshots."""

    volumes = Bundle("volumes")
    bases = Bundle("bases")

    def __init__(self, storage: Any) -> None:
        super().__init__()
        self.storage = storage
        self.loop = asyncio.new_event_loop()
        self.told: dict[str, str] = {}
        self.kept: dict[str, dict[str, str]] = {}
        self.vmid = 100
        self.do(self._begin())

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        async with self.storage.making_base(KEY, 32 * MIB) as folder:
            (folder / "file").write_text("base")

    async def _read(self, name: str) -> str:
        text = (await self.storage.activate(name) / "file").read_text()
        await self.storage.deactivate(name)
        return text

    async def _write(self, name: str, text: str) -> None:
        (await self.storage.activate(name) / "file").write_text(text)
        await self.storage.deactivate(name)

    def _named(self) -> str:
        self.vmid += 1
        name: str = self.storage.volume_name(self.vmid, 0, SIZE)
        return name

    @rule(target=volumes)
    def make(self) -> str:
        name = self._named()
        self.do(self.storage.from_base(KEY, name, SIZE))
        self.told[name], self.kept[name] = "base", {}
        return name

    @rule(name=volumes, text=TEXTS)
    def write(self, name: str, text: str) -> None:
        self.do(self._write(name, text))
        self.told[name] = text

    @rule(name=volumes, snapshot=SNAPSHOTS)
    def snapshot(self, name: str, snapshot: str) -> None:
        if snapshot not in self.kept[name]:
            self.do(self.storage.snapshot(name, snapshot))
            self.kept[name][snapshot] = self.told[name]

    @rule(name=volumes, snapshot=SNAPSHOTS)
    def roll_back(self, name: str, snapshot: str) -> None:
        if snapshot not in self.kept[name]:
            return
        if self.storage.capabilities.latest_only and list(self.kept[name])[-1] != snapshot:
            with pytest.raises(WrongState):
                self.do(self.storage.rollback(name, snapshot))
            return
        self.do(self.storage.rollback(name, snapshot))
        self.told[name] = self.kept[name][snapshot]

    @rule(name=volumes, snapshot=SNAPSHOTS)
    def forget(self, name: str, snapshot: str) -> None:
        self.do(self.storage.delete_snapshot(name, snapshot))
        self.kept[name].pop(snapshot, None)

    @rule(target=bases, name=consumes(volumes))
    def make_base(self, name: str) -> Any:
        if self.kept[name]:
            with pytest.raises(WrongState):
                self.do(self.storage.make_base(name))
            return multiple()
        base: str = self.do(self.storage.make_base(name))
        self.told[base] = self.told.pop(name)
        del self.kept[name]
        return base

    @rule(target=volumes, base=bases)
    def clone(self, base: str) -> str:
        self.vmid += 1
        name: str = self.storage.clone_name(base, self.vmid, 0, "rootdir")
        self.do(self.storage.clone(base, name))
        self.told[name], self.kept[name] = self.told[base], {}
        return name

    @rule(target=volumes, name=volumes, snapshot=SNAPSHOTS)
    def copy(self, name: str, snapshot: str) -> str:
        copied = self._named()
        known = snapshot in self.kept[name]
        self.do(self.storage.copy(name, copied, snapshot if known else None))
        self.told[copied], self.kept[copied] = self.kept[name][snapshot] if known else self.told[name], {}
        return copied

    @rule(name=consumes(volumes))
    def delete(self, name: str) -> None:
        self.do(self.storage.delete(name))
        del self.told[name], self.kept[name]

    @invariant()
    def all_is_as_told(self) -> None:
        listed = {volume.volid.partition(":")[2] for volume in self.do(self.storage.list())}
        assert listed == set(self.told)
        for name, text in self.told.items():
            assert self.do(self._read(name)) == text
            assert set(self.do(self.storage.snapshots(name))) == set(self.kept.get(name, ()))

    def teardown(self) -> None:
        left = sorted(self.told)
        while left:
            left = [
                name for name in left if self.do(self.storage.clones_of(name)) or self.do(self.storage.delete(name))
            ]
        assert self.do(self.storage.drop_base(KEY))
        self.loop.close()


@pytest.mark.parametrize("driver", ["dir-ext4", "dir-xfs", "btrfs", "lvmthin", "zfspool", "rbd"])
def test_histories(driver: str, disposable: Disposable, tmp_path: Path) -> None:
    def machine() -> Histories:
        storage = made(driver, disposable, tmp_path)
        asyncio.run(storage.prepare())
        return Histories(storage)

    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=6 if driver == "btrfs" else 3,
            stateful_step_count=10,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    assert mounts_within(tmp_path) == []
