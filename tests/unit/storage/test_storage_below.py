"""What a volume builds on is written and read back, and nothing else is believed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import HostFailure, InvalidParameter
from bastide.storage.below import NOTHING, Below, check_key

KEYS = st.text("0123456789abcdef", min_size=16, max_size=16)
BASES = st.builds(
    "{0}/base-{0}-disk-{1}.{2}".format,
    st.integers(100, 999_999_999),
    st.integers(0, 99_999),
    st.sampled_from(["raw", "subvol", "qcow2", "vmdk"]),
)


@given(st.none() | BASES, st.none() | BASES | KEYS)
def test_it_is_read_as_it_was_written(copied: str | None, under: str | None) -> None:
    key = under if under is not None and "/" not in under else None
    below = Below(copied, None if key else under, key)
    text = below.to_text()
    assert Below.parse(text or "") == below
    assert (text is None) == (below == NOTHING)
    assert below.layered == (under is not None)
    assert below.parent == (copied or below.volume)


@given(st.text(max_size=60))
def test_nothing_else_is_believed(text: str) -> None:
    try:
        below = Below.parse(text)
    except HostFailure:
        return
    assert Below.parse(below.to_text() or "") == below


@pytest.mark.parametrize(
    "text",
    [
        "volume:/etc/shadow",
        "volume:../../etc/shadow",
        "volume:100/vm-100-disk-0.raw",
        "volume:100/base-100-disk-0.raw/101/vm-101-disk-0.raw",
        "volume:100/base-100-disk-0.raw/101/base-101-disk-0.raw",
        "base:../../../../etc/shad",
        "base:0123456789ABCDEF",
        "base:0123456789abcdef\nbase:0123456789abcdef",
        "base:0123456789abcdef\nvolume:100/base-100-disk-0.raw",
        "other:1",
        "\n",
    ],
)
def test_names_that_lead_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(HostFailure):
        Below.parse(text)


def test_a_key_is_sixteen_digits() -> None:
    assert check_key("0123456789abcdef") == "0123456789abcdef"
    for key in ("", "0" * 15, "0" * 17, "g" * 16, "../0123456789abc", "0123456789abcdef\n"):
        with pytest.raises(InvalidParameter):
            check_key(key)
