"""The storage type `lvmthin`: logical volumes in a thin pool, which take space only for what is written.

Snapshots, clones and copies are thin snapshots; none of them needs what it was made from to go on.
"""

from bastide.base.layout import Layout
from bastide.host.lvm import Lvm
from bastide.model.storage import StorageConfig
from bastide.storage.block import TOOLS, BlockTools
from bastide.storage.block_copies import BlockStorage
from bastide.storage.block_lvm import LvmPool


class LvmThinStorage(BlockStorage):
    """A thin pool."""

    programs = ("lvs",)

    def __init__(self, config: StorageConfig, layout: Layout, tools: BlockTools = TOOLS) -> None:
        lvm = Lvm(config.vgname or "", tools.run, tools.devices)
        super().__init__(config, layout, LvmPool(config, lvm), tools)
