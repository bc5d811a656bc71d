"""What a QEMU process is started with: the descriptors that it inherits, and its argument list.

`needs` says what has to be opened for a plan; the engine opens it; `render.render_argv` writes the argument list with
the numbers of the open descriptors. Both are pure, so that golden files show what QEMU is handed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from bastide.model.storage import DiskImage

NeedKind = Literal["image", "copy", "device", "tap", "vhost", "listener", "peer"]


@dataclass(frozen=True, slots=True)
class Need:
    """A descriptor, or `count` of them, that QEMU inherits.

    `name` is what the renderer asks the numbers by. By `kind`:

    * `image`: the file or block device `path`, opened for reading, and for writing unless `read_only`; `image` says
      what a volume of ours has to be, and what its header has to name;
    * `copy`: a copy of the file `path` in memory, which is gone when QEMU is;
    * `device`: the character device `path` (`/dev/ttyS0`, `/dev/hwrng`), opened for reading, and for writing unless
      `read_only`; it has no header to check;
    * `tap`: the network interface `interface`, one descriptor a queue;
    * `vhost`: /dev/vhost-net, one descriptor a queue; left out where the host has none;
    * `listener`: a listening UNIX socket `<name>.sock` in the guest's runtime folder;
    * `peer`: QEMU's end of a socket pair; the other end is for a helper process of that name (`tpm`).
    """

    name: str
    kind: NeedKind
    path: Path | None = None
    read_only: bool = False
    interface: str | None = None
    count: int = 1
    image: DiskImage | None = None
