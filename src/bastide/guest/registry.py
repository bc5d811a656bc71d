"""The guests of this host: their records in the store, read often and changed by compare-and-swap."""

import asyncio
import re
from collections.abc import Callable, Sequence

from bastide.base.errors import AlreadyExists, Conflict, InvalidParameter, NotFound
from bastide.base.ids import VMID_MAX, VMID_MIN
from bastide.model.guest import Guest, Kind
from bastide.state.checked import aside
from bastide.state.store import ABSENT, Entry, Store

_PREFIX = "guest/"
_FIRST_ID = re.compile(r'"first_id":\s*(\d{1,10})')
_FOLDERS: dict[Kind, str] = {"lxc": "lxc", "qemu": "qemu-server"}


class Guests:
    """Guest records. A record is parsed once a revision, so that listing thousands costs no parsing.

    `numbering` is held while something unique among all guests (an id range) is chosen and stored.
    """

    def __init__(self, store: Store, node: str) -> None:
        self._store = store
        self._node = node
        self._parsed: dict[int, Guest] = {}
        self.numbering = asyncio.Lock()

    async def get(self, vmid: int, kind: Kind | None = None) -> Guest:
        """The guest's record, if it is of the asked kind. Raises NotFound, in Proxmox's words where a kind is asked."""
        entry = await self._store.get(f"{_PREFIX}{vmid}")
        guest = None if entry is None else self._parse(entry)
        if guest is not None and kind in (None, guest.kind):
            return guest
        if kind is None:
            raise NotFound(f"a guest {vmid} does not exist; `bastide ls` shows the guests")
        raise NotFound(f"Configuration file 'nodes/{self._node}/{_FOLDERS[kind]}/{vmid}.conf' does not exist")

    async def find(self, name: str, known: Callable[[int], object] = bool) -> Guest:
        """A guest by its vmid or its name. Raises NotFound, or InvalidParameter when two guests bear the name.

        Of those that bear it, only guests count that are `known` by their vmid.
        """
        if name.isascii() and name.isdigit():
            return await self.get(int(name))
        named = [guest for guest in await self.list() if guest.name == name and known(guest.vmid)]
        if not named:
            raise NotFound(f"a guest named '{name[:80]}' does not exist; `bastide ls` shows the guests")
        if len(named) > 1:
            ids = ", ".join(str(guest.vmid) for guest in named)
            raise InvalidParameter({"guest": f"the guests {ids} are all named '{name[:80]}': use the id"})
        return named[0]

    async def list(self) -> list[Guest]:
        """All guests in the order of their vmids."""
        guests = [self._parse(entry) for entry in await self._store.list(_PREFIX)]
        if len(self._parsed) > len(guests):
            self._parsed = {guest.vmid: guest for guest in guests}
        return sorted(guests, key=lambda guest: guest.vmid)

    def unreadable(self) -> frozenset[int]:
        """The vmids whose records cannot be read: they are taken all the same, and their volumes somebody's."""
        return frozenset(vmid for vmid, _ in self._aside())

    def naming(self, *texts: str) -> Sequence[int]:
        """The guests whose records cannot be read and hold one of the texts: they may use what it stands for."""
        return [vmid for vmid, raw in self._aside() if any(text in raw for text in texts)]

    async def taken_ids(self) -> Sequence[int]:
        """The first ids of all guests' ranges, of unreadable records as far as their text shows them."""
        shown = [int(found[1]) for _, raw in self._aside() if (found := _FIRST_ID.search(raw))]
        return [guest.first_id for guest in await self.list() if guest.first_id is not None] + shown

    def _aside(self) -> Sequence[tuple[int, str]]:
        kept = [(one.entry.key.removeprefix(_PREFIX), one.entry.value) for one in aside(self._store, _PREFIX)]
        return [(int(name), raw) for name, raw in kept if name.isascii() and name.isdigit()]

    async def create(self, guest: Guest) -> Guest:
        """Store a new guest. Raises AlreadyExists when the vmid is taken."""
        try:
            entry = await self._store.put(f"{_PREFIX}{guest.vmid}", guest.to_json(), ABSENT)
        except Conflict:
            there = await self.get(guest.vmid)
            raise AlreadyExists(
                f"unable to create {guest.title} - {there.title} already exists on node '{self._node}'"
            ) from None
        return self._parse(entry)

    async def update(self, guest: Guest) -> Guest:
        """Store a changed guest. Raises Conflict when it changed since it was read."""
        entry = await self._store.put(f"{_PREFIX}{guest.vmid}", guest.to_json(), guest.revision)
        return self._parse(entry)

    async def delete(self, vmid: int) -> None:
        """Forget a guest; one that is not there is fine."""
        await self._store.delete(f"{_PREFIX}{vmid}")
        self._parsed.pop(vmid, None)

    async def next_vmid(self, lower: int = VMID_MIN, upper: int = VMID_MAX) -> int:
        """The lowest free vmid in the range. Raises NotFound when all are taken."""
        taken = {guest.vmid for guest in await self.list()} | self.unreadable()
        for vmid in range(lower, upper + 1):
            if vmid not in taken:
                return vmid
        raise NotFound(f"no such free VMID between {lower} and {upper}: all are taken")

    def _parse(self, entry: Entry) -> Guest:
        vmid = int(entry.key.removeprefix(_PREFIX))
        known = self._parsed.get(vmid)
        if known is None or known.revision != entry.revision:
            known = Guest.from_json(vmid, entry.value, entry.revision)
            self._parsed[vmid] = known
        return known
