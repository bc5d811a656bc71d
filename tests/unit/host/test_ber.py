"""The encoding of LDAP's messages: what is written is read again, and nothing that is read does harm."""

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.host import ber


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_come_back(value: int) -> None:
    (element,) = ber.Element(ber.SEQUENCE, ber.integer(value)).children()
    assert (element.tag, element.number) == (ber.INTEGER, value)


@given(st.lists(st.binary(max_size=300), max_size=8))
def test_sequences_come_back(values: list[bytes]) -> None:
    whole = ber.sequence(*(ber.octets(value) for value in values))
    head = ber.head_of(whole)
    assert head is not None
    assert sum(head) == len(whole)
    (element,) = ber.Element(0, whole).children(ber.SEQUENCE)
    assert [child.body for child in element.children(ber.OCTETS)] == values


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(ber.MalformedError):
        for child in ber.Element(0, data).children():
            assert len(child.body) < len(data)


def test_longer_lengths_than_needed_are_read() -> None:
    """Active Directory writes them."""
    (element,) = ber.Element(0, b"\x30\x84\x00\x00\x00\x03\x02\x01\x05").children()
    assert [child.number for child in element.children()] == [5]


@pytest.mark.parametrize(
    "data",
    [b"\x30\x80\x00\x00", b"\x30\x85\x00\x00\x00\x00\x00", b"\x1f\x01\x00", b"\x04\x05ab", b"\x04", b"\x30\x84\xff"],
    ids=["indefinite", "five bytes of length", "long tag", "cut short", "no length", "half a length"],
)
def test_what_is_no_encoding_is_refused(data: bytes) -> None:
    with pytest.raises(ber.MalformedError):
        ber.Element(0, data).children()


def test_deep_nesting_costs_no_more_than_its_bytes() -> None:
    deep = b""
    for _ in range(2000):
        deep = ber.sequence(deep)
    begun = time.process_time()
    element = ber.Element(0, deep)
    depth = 0
    while children := element.children():
        (element,) = children
        depth += 1
    assert depth == 2000
    assert time.process_time() - begun < 5
