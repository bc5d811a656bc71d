"""Writing and reading the contents of a VMA archive (see `vma.py`) from one end to the other."""

import mmap
from collections.abc import Callable, Iterator, Sequence

from bastide.backup.vma import (
    BLOCK,
    CLUSTER,
    EXTENT_HEADER,
    MAX_SIZE,
    MOST_CLUSTERS,
    Buffer,
    Readable,
    damaged,
    parse_extent,
    parse_header,
    read_header,
    render_extent,
)

_WHOLE = 0xFFFF
_ZEROS = bytes(BLOCK)
_VMSTATE = "vmstate"
_Piece = tuple[int, int, int, int | None]
"""A disk's number, where the piece begins, its length, and where in the extent its bytes are, None for zeros."""


def masks(data: bytes | bytearray, length: int) -> list[int]:
    """For each cluster of the first `length` bytes of `data`, the blocks that are not zeros: bit 0 is the first."""
    there = (1 << -(-length // BLOCK)) - 1
    firsts = data[:length:BLOCK]
    at = firsts.find(0)
    while at >= 0:
        begin, end = at * BLOCK, min(at * BLOCK + BLOCK, length)
        if data[begin:end] == (_ZEROS if end - begin == BLOCK else bytes(end - begin)):
            there &= ~(1 << at)
        at = firsts.find(0, at + 1)
    return [there >> 16 * number & _WHOLE for number in range(-(-length // CLUSTER))]


class Writer:
    """Writes an archive: `write` gets the parts of an extent, whose buffers are free again when it returns."""

    def __init__(self, write: Callable[[Sequence[Buffer]], None], header: bytes) -> None:
        """Write the header, which `render_header` gave."""
        self._write, self._uuid = write, parse_header(header).uuid
        self._clusters: list[tuple[int, int, int]] = []
        self._parts: list[Buffer] = []
        write([header])

    def data(self, device: int, cluster: int, data: bytes | bytearray, length: int) -> None:
        """Add the first `length` bytes of `data` from a cluster on: whole clusters but at the disk's end."""
        view = memoryview(data)
        for number, mask in enumerate(masks(data, length)):
            self._clusters.append((device, cluster + number, mask))
            self._parts.extend(_stored(view, number * CLUSTER, mask, length))
            if len(self._clusters) == MOST_CLUSTERS:
                self.flush()

    def zeros(self, device: int, first: int, end: int) -> None:
        """Add the clusters from `first` up to `end`, which are zeros."""
        for cluster in range(first, end):
            self._clusters.append((device, cluster, 0))
            if len(self._clusters) == MOST_CLUSTERS:
                self.flush()

    def flush(self) -> None:
        """Write the clusters that were added since an extent was written."""
        if self._clusters:
            self._write([render_extent(self._uuid, self._clusters), *self._parts])
            self._clusters, self._parts = [], []


def _stored(view: memoryview, begin: int, mask: int, length: int) -> Iterator[Buffer]:
    """The blocks of a cluster that are there; what a disk's end lacks of a block is zeros."""
    for first, count in _runs(mask):
        end = begin + (first + count) * BLOCK
        yield view[begin + first * BLOCK : min(end, length)]
        if end > length:
            yield bytes(end - length)


def _runs(mask: int) -> Sequence[tuple[int, int]]:
    """Where bits follow one another that are set: the first one, and how many."""
    if mask == _WHOLE:
        return ((0, 16),)
    found = []
    first = 0
    while rest := mask >> first:
        first += (rest & -rest).bit_length() - 1
        count = (~(mask >> first) & (mask >> first) + 1).bit_length() - 1
        found.append((first, count))
        first += count
    return found


class Reader:
    """Reads an archive from its beginning to its end and believes nothing of it."""

    def __init__(self, source: Readable) -> None:
        """Read the header. Raises HostFailure."""
        self.header = read_header(source)
        self._source = source
        sizes = {number: device.size for number, device in self.header.devices.items() if device.name != _VMSTATE}
        if sum(sizes.values()) > MAX_SIZE:
            raise damaged("its disks claim more than 256 TiB")
        # Pages that nothing is written to are not there yet: what an archive claims costs nothing before it is told.
        self._told = {number: mmap.mmap(-1, -(-size // CLUSTER) // 8 + 1) for number, size in sizes.items()}
        self._left = {number: -(-size // CLUSTER) for number, size in sizes.items()}

    def pieces(self) -> Iterator[tuple[int, int, int, memoryview | None]]:
        """Each piece of each disk: the disk's number, where it begins, its length, and its bytes, or None for zeros.

        They come in any order and never twice, none ends beyond its disk, and all of it was told when the iteration
        ends. The bytes are valid until the next piece. Saved memory (`vmstate`) is passed over. Raises HostFailure.
        """
        head, data = memoryview(bytearray(EXTENT_HEADER)), memoryview(bytearray(MOST_CLUSTERS * CLUSTER))
        while self._fill(head, start=True):
            clusters, size = parse_extent(head, self.header.uuid)
            self._fill(data[:size])
            for number, begin, length, at in _joined(self._extent(clusters)):
                yield number, begin, length, None if at is None else data[at : at + length]
        for number, left in self._left.items():
            if left:
                raise damaged(f"{left} clusters of '{self.header.devices[number].name}' are missing")

    def _extent(self, clusters: Sequence[tuple[int, int, int]]) -> Iterator[_Piece]:
        at = 0
        for number, cluster, mask in clusters:
            if number in self._told:
                self._tell(number, cluster)
                yield from self._cluster(number, cluster, mask, at)
            elif number not in self.header.devices:
                raise damaged(f"it has data of a disk {number} that its header does not name")
            at += mask.bit_count() * BLOCK

    def _tell(self, number: int, cluster: int) -> None:
        device, told = self.header.devices[number], self._told[number]
        if cluster * CLUSTER >= device.size:
            raise damaged(f"it has data beyond the end of '{device.name}'")
        if told[cluster >> 3] & 1 << (cluster & 7):
            raise damaged(f"it has the cluster {cluster} of '{device.name}' twice")
        told[cluster >> 3] |= 1 << (cluster & 7)
        self._left[number] -= 1

    def _cluster(self, number: int, cluster: int, mask: int, at: int) -> Iterator[_Piece]:
        begin, device = cluster * CLUSTER, self.header.devices[number]
        size = min(CLUSTER, device.size - begin)
        # Proxmox VE writes whole clusters beyond the end, and single blocks never.
        if mask != _WHOLE and mask >> -(-size // BLOCK):
            raise damaged(f"it has data beyond the end of '{device.name}'")
        done = 0
        for first, count in _runs(mask):
            start, end = first * BLOCK, min((first + count) * BLOCK, size)
            if start > done:
                yield number, begin + done, start - done, None
            yield number, begin + start, end - start, at
            done = end
            at += count * BLOCK
        if done < size:
            yield number, begin + done, size - done, None

    def _fill(self, view: memoryview, *, start: bool = False) -> bool:
        """Read as much; False at the end of the stream where an extent may `start`."""
        got = 0
        while got < len(view):
            part = self._source.readinto(view[got:])
            if not part:
                if start and not got:
                    return False
                raise damaged("it ends in the middle")
            got += part
        return True


def _joined(pieces: Iterator[_Piece]) -> Iterator[_Piece]:
    """The same with pieces made one that follow one another, on the disk and in the extent."""
    last: _Piece | None = None
    for piece in pieces:
        number, begin, length, at = piece
        if last is not None and last[0] == number and last[1] + last[2] == begin and _follows(last, at):
            last = (number, last[1], last[2] + length, last[3])
        else:
            if last is not None:
                yield last
            last = piece
    if last is not None:
        yield last


def _follows(last: _Piece, at: int | None) -> bool:
    return at is None if last[3] is None else at == last[3] + last[2]
