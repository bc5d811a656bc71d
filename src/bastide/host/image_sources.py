"""Disk images opened for QEMU's tools, which get descriptors in a sandbox and no path: see `sandbox.py`.

A source is spelled with the format and driver of every file that it consists of, so that nothing is probed and nothing
is left to a header. Source: qemu-block-drivers(7), the pseudo-protocol `json:`.
"""

import contextlib
import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bastide.base.errors import HostFailure
from bastide.host import disk_image
from bastide.model.storage import DiskImage

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Source:
    """Open files as `name` of QEMU's; `size` is what a guest sees, in bytes. `snapshot` is the one inside to show."""

    files: list[int]
    name: str
    size: int
    snapshot: str | None = None


@contextlib.contextmanager
def opened_source(
    source: Path | int | DiskImage, form: str, *, writable: bool = False, size: int | None = None
) -> Iterator[Source]:
    """Open an image: a path, a descriptor that was checked, or a volume of ours with what it builds on.

    Only the first of a volume's files is `writable`; a descriptor is as it was opened. `size` limits a raw image to its
    first bytes. Raises HostFailure.
    """
    with contextlib.ExitStack() as stack:
        if isinstance(source, DiskImage):
            files = stack.enter_context(disk_image.opened_chain(source, writable=writable))
            forms = [str(link.format) for link in disk_image.links(source)]
            snapshot = None if source.inside is None else plain(source.inside)
            seen = disk_image.check_link(files[0], source).virtual_size
        else:
            flags = os.O_RDWR if writable else os.O_RDONLY
            files = [source if isinstance(source, int) else stack.enter_context(disk_image.opened(source, flags))]
            forms, snapshot = [form], None
            seen = disk_image.check_chain(files[0], form).virtual_size
        if size is not None and not (forms == ["raw"] and size <= seen):
            raise HostFailure(f"{size} bytes of a {forms[0]} image of {seen} bytes cannot be shown alone")
        yield Source(files, _spelled(files, forms, size), seen if size is None else size, snapshot)


def alone(form: str) -> str:
    """How the image `/0` is spelled without what it builds on, for work on its own tables."""
    return f"json:{json.dumps({**_node(form, 0, device=False), 'backing': None})}"


def plain(name: str) -> str:
    """A snapshot's name, if QEMU's tools take it for nothing else. Raises HostFailure."""
    if _NAME.fullmatch(name) is None:
        raise HostFailure(f"'{name[:60]}' is no name of a snapshot")
    return name


def _spelled(files: Sequence[int], forms: Sequence[str], size: int | None) -> str:
    node: dict[str, object] | None = None
    for number in reversed(range(len(files))):
        device = stat.S_ISBLK(os.fstat(files[number]).st_mode)
        above = _node(forms[number], number, device=device)
        node = {**above, "backing": node} if forms[number] in ("qcow2", "vmdk") else above
    return f"json:{json.dumps(node if size is None else {**(node or {}), 'size': size})}"


def _node(form: str, number: int, *, device: bool) -> dict[str, object]:
    return {"driver": form, "file": {"driver": "host_device" if device else "file", "filename": f"/{number}"}}
