"""Filters as an administrator writes them, and values that can be nothing but values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bastide.host import ber, ldap_filter

_NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)


def _escaped(text: str) -> str:
    return "".join(f"\\{byte:02x}" for byte in text.encode())


@given(_NAMES, st.text(min_size=1, max_size=20))
def test_an_escaped_value_is_what_equals_makes(name: str, value: str) -> None:
    assert ldap_filter.parse(f"({name}={_escaped(value)})") == ldap_filter.equals(name, value)


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_with_a_sentence(text: str) -> None:
    try:
        made = ldap_filter.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017 - either is right
        return
    assert len(ber.Element(0, made).children()) == 1


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("uid=ada", "a30a" "0403756964" "0403616461"),
        ("(uid=*)", "8703756964"),
        ("(!(a=b))", "a208" "a306" "040161" "040162"),
        ("(&(a=b)(c=d))", "a010" "a306040161040162" "a306040163040164"),
        ("(|)", "a100"),
        ("(a>=b)", "a506040161040162"),
        ("(a<=b)", "a606040161040162"),
        ("(a~=b)", "a806040161040162"),
        ("(a=x*y*z)", "a40e" "040161" "3009" "800178" "810179" "82017a"),
        ("(a=*y*)", "a408" "040161" "3003" "810179"),
        (r"(a=\2a)", "a30604016104012a"),
        ("(a:=b)", "a906" "820161" "830162"),
        ("(a:dn:1.2:=b)", "a90e" "8103312e32" "820161" "830162" "8401ff"),
        ("(:caseExactMatch:=b)", "a913" "810e6361736545786163744d61746368" "830162"),
        (
            "(memberOf:1.2.840.113556.1.4.1941:=cn=a,dc=b)",
            "a92e" "8117312e322e3834302e3131333535362e312e342e31393431" "82086d656d6265724f66" "8309636e3d612c64633d62",
        ),
    ],
)  # fmt: skip
def test_written_filters(text: str, made: str) -> None:
    """As RFC 4511 encodes them, and OpenLDAP's tools do."""
    assert ldap_filter.parse(text).hex() == made


@pytest.mark.parametrize(
    "text",
    ["", "(", "()", "(a)", "(a=b", "(a=b))", "(a=b)(c=d)", "(!(a=b)(c=d))", "(a=**)", r"(a=\g0)", r"(a=\2)",
     "(=b)", "(a b=c)", "(&(a=b)", "(:=b)", "(" * 40 + "a=b" + ")" * 40, "(&" * 40 + "(a=b)" + ")" * 40],
)  # fmt: skip
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        ldap_filter.parse(text)
