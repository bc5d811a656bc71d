"""The catalog: entries by name, by alias, by a misspelling, and by words of their texts."""

import difflib
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache

from bastide.base.errors import InvalidParameter, NotFound
from bastide.model import documents
from bastide.model.catalog import CatalogEntry

_CERTAIN = 0.8
"""The least likeness (difflib's ratio, 0 to 1) at which a misspelled name stands for an entry."""

_LEAD = 0.06
"""How much more alike than any other entry's names it has to be."""

_NEAR = 0.6
_SHORT = 3  # letters, of which an `s` at the end means no plural: dns, nas
_NEAR_COUNT = 5
_LEAST_GUESSED = 4
_TEXT_LIMIT = 80


@lru_cache(maxsize=1024)
def parse_entry(text: str, file: str) -> CatalogEntry:
    """The entry that a YAML text holds. Raises InvalidParameter, its keys such as `web.yaml: line 4: size.usual`."""
    try:
        return documents.parse(text, CatalogEntry, "entry")
    except InvalidParameter as error:
        raise InvalidParameter({f"{file}: {place}": why for place, why in error.errors.items()}) from None


class Catalog:
    """Entries, sorted by name. Immutable."""

    def __init__(self, entries: Iterable[CatalogEntry], below: "Catalog | None" = None) -> None:
        """Entries that hide those of `below` with the same name; an alias that both have means theirs.

        Raises InvalidParameter when two of the entries share a name or an alias.
        """
        added = tuple(entries)
        self._index = _index(added)
        names = {entry.name for entry in added}
        kept = [entry for entry in below.entries if entry.name not in names] if below is not None else []
        for entry in kept:
            for word in (entry.name, *entry.aliases):
                self._index.setdefault(_squashed(word), entry)
        self._names = {entry.name: entry for entry in (*kept, *added)}
        self.entries: tuple[CatalogEntry, ...] = tuple(self._names[name] for name in sorted(self._names))

    def __len__(self) -> int:
        return len(self.entries)

    def get(self, name: str) -> CatalogEntry | None:
        """The entry of exactly that name."""
        return self._names.get(name)

    def find(self, text: str) -> CatalogEntry:
        """The entry that a name, an alias or a misspelling of one means. Raises NotFound, which tells what is near.

        Upper case, spaces and hyphens do not matter. A misspelling counts when one entry alone is that near.
        """
        word = _squashed(text[:_TEXT_LIMIT])
        if (named := self._names.get(text.strip().lower())) is not None:
            return named
        if word in self._index:
            return self._index[word]
        ranked = self._ranked(word)
        if ranked and len(word) >= _LEAST_GUESSED:
            best, entry = ranked[0]
            second = ranked[1][0] if len(ranked) > 1 else 0.0
            if best >= _CERTAIN and best - second >= _LEAD:
                return entry
        raise NotFound(f"no such service '{text[:_TEXT_LIMIT]}' in the catalog{_hint(ranked)}")

    def near(self, text: str) -> tuple[str, ...]:
        """Names of the entries that a text may have meant, the nearest first; at most five."""
        return tuple(entry.name for _, entry in self._ranked(_squashed(text[:_TEXT_LIMIT]))[:_NEAR_COUNT])

    def search(self, words: Sequence[str], category: str | None = None) -> tuple[CatalogEntry, ...]:
        """The entries in whose texts all words stand, those that have them in their names first."""
        wanted = [word.lower() for text in words for word in text.split()]
        found = []
        for entry in self.entries:
            if category not in (None, entry.category):
                continue
            weights = [_weight(entry, word) for word in wanted]
            if all(weights):
                found.append((-sum(weights), entry.name, entry))
        return tuple(entry for _, _, entry in sorted(found, key=lambda item: item[:2]))

    def _ranked(self, word: str) -> list[tuple[float, CatalogEntry]]:
        """How alike the entries' names are to a word, from `_NEAR` on, the most alike first, each entry once."""
        likeness: dict[str, float] = {}
        matcher = difflib.SequenceMatcher(autojunk=False)
        matcher.set_seq2(word)
        for known, entry in self._index.items():
            matcher.set_seq1(known)
            least = max(_NEAR, likeness.get(entry.name, 0.0))
            if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least:
                likeness[entry.name] = max(matcher.ratio(), likeness.get(entry.name, 0.0))
        ranked = [(ratio, self._names[name]) for name, ratio in likeness.items() if ratio >= _NEAR]
        return sorted(ranked, key=lambda item: (-item[0], item[1].name))


def _index(entries: Sequence[CatalogEntry]) -> dict[str, CatalogEntry]:
    """Entries by every way to write their names and aliases. Raises InvalidParameter for one that two have."""
    index: dict[str, CatalogEntry] = {}
    for entry in entries:
        for word in (entry.name, *entry.aliases):
            other = index.setdefault(_squashed(word), entry)
            if other is not entry:
                raise InvalidParameter({entry.name: f"'{word}' also means the entry {other.name}"})
    return index


def _squashed(text: str) -> str:
    """A name without what people write in different ways: `Pi-hole`, `pi hole` and `pihole` are one."""
    return re.sub(r"[\s._-]+", "", text.lower())


def _weight(entry: CatalogEntry, word: str) -> int:
    """How much an entry speaks of a word: 0 is not at all."""
    names = (entry.name, *entry.aliases)
    if word in names:
        return 8
    if len(word) > _SHORT and word.endswith("s"):
        word = word[:-1]  # `passwords` is asked for, and `password store` written
    if any(word in name for name in names) or word in entry.title.lower():
        return 4
    if word in entry.category:
        return 2
    return int(word in entry.summary.lower())


def _hint(ranked: Sequence[tuple[float, CatalogEntry]]) -> str:
    if not ranked:
        return "; 'bastide catalog' lists what there is"
    return f"; did you mean {', '.join(entry.name for _, entry in ranked[:_NEAR_COUNT])}?"
