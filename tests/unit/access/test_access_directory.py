"""Members that Active Directory tells in ranges (MS-ADTS, section 3.1.1.3.1.3.3)."""

from typing import Any, cast

import pytest

from bastide.access import directory
from bastide.base.errors import HostFailure
from bastide.host.ldap import Directory, Found

pytestmark = pytest.mark.anyio


class Ranges:
    """A directory with one group, whose members it tells so many at a time."""

    def __init__(self, total: int, step: int) -> None:
        self.members = [f"cn=u{number}" for number in range(total)]
        self.step = step

    def found(self, at: int) -> Found:
        part = tuple(self.members[at : at + self.step])
        last = "*" if at + self.step >= len(self.members) else str(at + self.step - 1)
        return Found("cn=all", {"member": (), f"member;range={at}-{last}": part})

    async def search(self, _base: str, _wanted: bytes, attributes: Any, **_more: Any) -> list[Found]:
        return [self.found(int(attributes[0].removeprefix("member;range=").removesuffix("-*")))]


async def members(ranges: Any, entry: Found) -> list[str]:
    return list(await directory._members(cast(Directory, ranges), entry))


@pytest.mark.parametrize("total", [1, 1500, 1501, 4000])
async def test_all_members_are_read(total: int) -> None:
    ranges = Ranges(total, 1500)
    assert await members(ranges, ranges.found(0)) == ranges.members


async def test_ranges_that_lead_nowhere_are_a_failure() -> None:
    class Lying(Ranges):
        async def search(self, *_more: Any, **_options: Any) -> list[Found]:
            return []

    ranges = Lying(4000, 1500)
    with pytest.raises(HostFailure, match="whole"):
        await members(ranges, ranges.found(0))
    with pytest.raises(HostFailure, match="too many"):
        await members(ranges, Found("cn=all", {"member;range=0-99999999": ()}))
