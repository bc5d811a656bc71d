"""The text forms of the lowest floor: what is rendered parses back, and what is malformed is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base import propstring, units
from bastide.base.errors import InvalidParameter, RunError
from bastide.base.ids import Upid, VolumeId

WORD = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(100, 999999999))
def test_upid_round_trip(pid: int, pstart: int, start: int, vmid: int) -> None:
    upid = Upid("pve1", pid, pstart, start, "vzcreate", str(vmid), "root@pam!tok")
    assert str(upid).count(":") == 8
    assert Upid.parse(str(upid)) == upid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "UPID:a:1:2:3:x:y:z:",
        "UPID:../..:00000001:00000001:00000001:a:b:c:",
        "UPID:n:00000001:00000001:00000001:a/b::c:",
        "UPID:n:00000001:00000001:00000001:a:b/../c:u:",
        "UPID:n:00000001:00000001:00000001:a:b:c:\n",
    ],
)
def test_upid_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match="upid"):
        Upid.parse(text)


@pytest.mark.parametrize(
    "text", ["local:iso/a.iso", "s1:100/vm-100-disk-0.subvol", "local:vztmpl/debian-12_1.0.tar.zst"]
)
def test_volume_id_round_trip(text: str) -> None:
    assert str(VolumeId.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    ["local", "local:", ":x", "local:/etc/passwd", "local:a/../b", "local:..", "local:a\nb", "../x:y", "local:./a"],
)
def test_volume_id_refuses(text: str) -> None:
    with pytest.raises(InvalidParameter, match="volume"):
        VolumeId.parse(text)


@given(st.integers(0, 2**49))
def test_size_round_trip(size: int) -> None:
    assert units.parse_size(units.format_size(size)) == size


@pytest.mark.parametrize("text", ["", "-1", "8GB", "1e3", "8 G", "0x10", "٣"])
def test_size_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="not a size"):
        units.parse_size(text)


@given(st.dictionaries(WORD, st.text(st.characters(exclude_characters=",", exclude_categories=("Cs",)), max_size=20)))
def test_property_string_round_trip(values: dict[str, str]) -> None:
    assert propstring.parse(propstring.render(values)) == values


def test_property_string_default_key() -> None:
    assert propstring.parse("local:8,ro=1", "volume") == {"volume": "local:8", "ro": "1"}
    assert propstring.render({"ro": "1", "volume": "local:8"}, "volume") == "local:8,ro=1"
    with pytest.raises(ValueError, match="missing key"):
        propstring.parse("local:8")
    with pytest.raises(ValueError, match="duplicate key"):
        propstring.parse("a=1,a=2")
    with pytest.raises(ValueError, match="comma"):
        propstring.render({"a": "1,b=2"})


def test_run_error_says_the_last_line() -> None:
    error = RunError(["tar", "-x"], 2, "tar: a\ntar: short read\n")
    assert str(error) == "tar failed with exit code 2: tar: short read"
