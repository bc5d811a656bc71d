"""The rule sets against golden files, against nft itself, and against hostile names."""

import subprocess
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.base.errors import InvalidParameter
from bastide.network import nft

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "nft"
SUBNET4, SUBNET6 = IPv4Network("10.77.5.0/24"), IPv6Network("fd12:3456:789a::/64")

CASES = {
    "nat": nft.render_nat("bastide", "vmbr0", SUBNET4, SUBNET6),
    "nat-guarded": nft.render_nat(
        "bastide-1f2e3d4c", "vmbr0", SUBNET4, SUBNET6, guarded4=["eth1", "eth0"], guarded6=["eth0"]
    ),
    "rate": nft.render_rate("bastide", "veth100i0", 10 * 1024 * 1024),
    "rate-lifted": nft.render_rate("bastide", "veth100i0", None),
    "rate-odd-name": nft.render_rate("bastide-1f2e3d4c", "v1f2e-100i0", 1),
}


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str) -> None:
    assert CASES[name] == (GOLDEN / f"{name}.nft").read_text()


@pytest.mark.system
@pytest.mark.parametrize("name", CASES)
def test_nft_takes_it_twice(name: str) -> None:
    text = CASES[name].replace('device "veth100i0"', 'device "lo"').replace('device "v1f2e-100i0"', 'device "lo"')
    for ruleset in (text, text + text):
        subprocess.run(["unshare", "-n", "nft", "-f", "-"], input=ruleset, text=True, check=True)


@given(st.text(min_size=1, max_size=16))
def test_a_name_is_one_quoted_word_or_refused(name: str) -> None:
    plain = nft.render_nat("bastide", "vmbr0", SUBNET4, SUBNET6, guarded4=["eth0"])
    for render in (
        lambda: nft.render_nat("bastide", name, SUBNET4, SUBNET6, guarded4=["eth0"]).replace(f'"{name}"', '"vmbr0"'),
        lambda: nft.render_nat("bastide", "vmbr0", SUBNET4, SUBNET6, guarded4=[name]).replace(f'"{name}"', '"eth0"'),
    ):
        try:
            assert render() == plain
        except InvalidParameter:
            assert not name.isalnum() or not name.isascii() or len(name) > 15


@given(st.text(max_size=20).filter(lambda text: not text.replace("-", "").isalnum() or not text.isascii()))
def test_a_table_is_named_by_an_instance_only(name: str) -> None:
    with pytest.raises(InvalidParameter):
        nft.render_nat(name, "vmbr0", SUBNET4, SUBNET6)


def test_names_that_differ_have_chains_that_differ() -> None:
    chains = {nft.render_rate("b", name, 1).split("chain ")[1].split()[0] for name in ("a-b", "a_b", "a.b", "a_2db")}
    assert len(chains) == 4
