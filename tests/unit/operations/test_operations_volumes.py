"""Volumes as options name them."""

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from bastide.base import units
from bastide.operations.volumes import parse_request


@given(st.decimals(0, 100_000, places=3))
def test_a_new_volume_is_of_whole_kib_and_nearly_as_asked(gib: Decimal) -> None:
    found = parse_request(f"local:{gib:f}")
    assert found is not None
    storage, size = found
    assert (storage, size % units.KIB) == ("local", 0)
    assert 0 <= float(gib) * units.GIB - size <= units.KIB


def test_what_is_there_is_no_request() -> None:
    for text in ("local:100/vm-100-disk-0.raw", "local:", "local:-1", "local:1G", "/dev/sda", "local:1.", "local:1e3"):
        assert parse_request(text) is None, text
