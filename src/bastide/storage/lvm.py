"""The storage type `lvm`: plain logical volumes.

Nothing is shared and nothing is thin: copies are whole, and there are no snapshots. With `saferemove` what is removed
is overwritten with zeros first: it becomes `del-NAME-TOKEN` and goes when that is done, after a restart as well.
"""

import asyncio
import logging
import re
import secrets

from bastide.base.errors import BastideError
from bastide.base.layout import Layout
from bastide.base.units import MIB, parse_size
from bastide.host.block_ext4 import BlockExt4
from bastide.host.lvm import Lvm
from bastide.model.storage import StorageConfig
from bastide.storage.block import TOOLS, BlockTools
from bastide.storage.block_copies import BlockStorage
from bastide.storage.block_lvm import LvmPool

_log = logging.getLogger(__name__)
_DOOMED = re.compile(r"del-(?:vm|base|bastide)-.+-[0-9a-f]{8}", re.ASCII)
_DEFAULT_STEP = 32

_wiping: dict[tuple[str, str], "asyncio.Task[None]"] = {}
"""What is being overwritten, by group and name, whichever object of the storage began it."""


class LvmStorage(BlockStorage):
    """A volume group."""

    programs = ("lvs",)

    pool: "ThickPool"

    def __init__(self, config: StorageConfig, layout: Layout, tools: BlockTools = TOOLS) -> None:
        lvm = Lvm(config.vgname or "", tools.run, tools.devices)
        super().__init__(config, layout, ThickPool(config, lvm, BlockExt4(tools.run)), tools)

    async def prepare(self) -> None:
        """Look whether the group is there, and go on with what was left. Raises HostFailure."""
        await super().prepare()
        for piece in await self._pieces():
            if _DOOMED.fullmatch(piece) is not None:
                self.pool.wipe_later(piece)


class ThickPool(LvmPool):
    """A volume group whose volumes may have to be overwritten before their room is given to others."""

    def __init__(self, config: StorageConfig, lvm: Lvm, ext4: BlockExt4) -> None:
        super().__init__(config, lvm)
        self._group = lvm.group
        self._safe = config.saferemove
        self._step = (config.saferemove_stepsize or _DEFAULT_STEP) * MIB
        self._rate = rate(config.saferemove_throughput)
        self._ext4 = ext4

    async def remove(self, name: str, *, alone: bool = False) -> None:
        """Remove it, or have it overwritten first; then it is gone from the list at once."""
        if not self._safe:
            await super().remove(name, alone=alone)
        elif any(piece.name == name for piece in await self.pieces()):
            # What is in use cannot lose its device, and is not renamed.
            await self.release(name)
            doomed = f"del-{name}-{secrets.token_hex(4)}"
            await self.rename(name, doomed)
            self.wipe_later(doomed)

    def wipe_later(self, name: str) -> None:
        """Overwrite and remove a volume while others work."""
        key = (self._group, name)
        if key not in _wiping:
            _wiping[key] = asyncio.create_task(self._wipe(name))
            _wiping[key].add_done_callback(lambda _task: _wiping.pop(key, None))

    async def idle(self) -> None:
        """Wait until all that was removed is overwritten."""
        await asyncio.gather(*(task for (group, _), task in _wiping.items() if group == self._group))

    async def _wipe(self, name: str) -> None:
        try:
            (size,) = [piece.size for piece in await self.pieces() if piece.name == name]
            await self._ext4.wipe(await self.device(name), size, self._step, self._rate)
            await super().remove(name, alone=True)
        except (BastideError, ValueError) as error:
            _log.error("%s/%s is not overwritten yet, the next start tries again: %s", self._group, name, error)


def rate(text: str | None) -> int | None:
    """Bytes a second of `saferemove_throughput`, None for no limit; a minus has no meaning here."""
    return (parse_size(text.removeprefix("-").upper()) if text is not None else 0) or None
