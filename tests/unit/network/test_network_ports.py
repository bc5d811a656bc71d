"""Names of host ends."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from bastide.base.ids import VMID_MAX, VMID_MIN
from bastide.base.layout import Layout
from bastide.model.container import NetworkInterface
from bastide.network import ports

ends = st.tuples(st.integers(VMID_MIN, VMID_MAX), st.integers(0, 31))
layouts = st.sampled_from([Layout(), Layout(Path("/srv/a"))])


def test_as_proxmox_names_them() -> None:
    assert ports.host_interface(Layout(), 100, 0) == "veth100i0"
    assert ports.host_interface(Layout(), 99_999_999, 31) == "veth99999999i31"


def test_hosts_that_share_a_machine_do_not_share_names() -> None:
    found = {ports.host_interface(Layout(root), 100, 0) for root in (None, Path("/srv/a"), Path("/srv/b"))}
    assert len(found) == 3


@given(layouts, ends, ends)
def test_names_fit_and_differ(layout: Layout, one: tuple[int, int], other: tuple[int, int]) -> None:
    first, second = ports.host_interface(layout, *one), ports.host_interface(layout, *other)
    assert len(first) <= 15
    assert (first == second) == (one == other)


def test_rate_is_in_mebibytes() -> None:
    def limit(rate: float | None) -> int | None:
        return ports.bytes_per_second(NetworkInterface(name="eth0", rate=rate))

    assert limit(1.5) == 1_572_864
    assert limit(None) is limit(0) is limit(1e6) is None
