"""What of a call's parameters may stand in the audit log."""

from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from bastide.model.audit import VALUE_LIMIT, AuditRecord, Bulk, Secret, shown
from bastide.model.record import Indexed, Record

HIDDEN_WORD = "hunter2hunter2"


class Thing(Record):
    """Parameters of every sort."""

    name: str | None = None
    password: Annotated[str | None, Field(max_length=64), Secret()] = None
    optional: Annotated[str, Secret()] | None = None
    renamed: Annotated[str | None, Field(alias="re-named"), Secret()] = None
    content: Annotated[str | None, Bulk()] = None
    command: Annotated[list[str], Bulk()] | None = None
    names: list[str] | None = None
    net: Annotated[dict[int, str] | None, Indexed(4)] = None
    nested: list[dict[str, str]] | None = None


@pytest.mark.parametrize("key", ["password", "optional", "re-named"])
def test_a_secret_is_hidden(key: str) -> None:
    """Without the mark this fails."""
    assert shown(Thing, {key: HIDDEN_WORD}) == {key: "***"}


def test_what_is_not_declared_is_hidden() -> None:
    """`pasword=...` is one that was misspelt."""
    assert shown(Thing, {"pasword": HIDDEN_WORD, "net4x": HIDDEN_WORD}) == {"pasword": "***", "net4x": "***"}


def test_of_contents_and_commands_the_amount_is_told() -> None:
    assert shown(Thing, {"content": "x" * 70_000, "command": ["mysql", f"-p{HIDDEN_WORD}"]}) == {
        "content": "70000 characters",
        "command": "2 values",
    }


def test_what_is_nested_is_counted() -> None:
    assert shown(Thing, {"nested": [{"user_data": HIDDEN_WORD}]}) == {"nested": "1 values"}


def test_plain_values_are_told_indexed_ones_too() -> None:
    assert shown(Thing, {"name": "web", "net0": "model=virtio", "names": ["a", "b"]}) == {
        "name": "web",
        "net0": "model=virtio",
        "names": "a,b",
    }


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("https://ada:hunter2@files.example.org/a.iso", "https://***@files.example.org/a.iso"),
        ("https://files.example.org/a.iso?X-Signature=hunter2&b=1#hunter2", "https://files.example.org/a.iso?***"),
        ("see http://files.example.org:8080/a and ssh://root:hunter2@h/", "see http://files.example.org:8080/a and ssh://***@h/"),
        ("https://[bad:hunter2@/", "***"),
    ],
)  # fmt: skip
def test_of_addresses_nothing_is_told_that_lets_in(given: str, told: str) -> None:
    assert shown(Thing, {"name": given}) == {"name": told}


@given(st.text(), st.dictionaries(st.text(max_size=80), st.text() | st.lists(st.text())))
def test_no_value_is_longer_than_the_limit(name: str, values: dict[str, object]) -> None:
    for key, value in shown(Thing, {**values, "name": name, "password": HIDDEN_WORD}).items():
        assert len(key) <= 64
        assert len(value) <= VALUE_LIMIT
        assert HIDDEN_WORD not in value


@pytest.mark.parametrize(("status", "failed"), [(200, False), (101, False), (304, False), (0, True), (401, True)])
def test_what_counts_as_failed(status: int, failed: bool) -> None:
    assert AuditRecord("write", "", "", "PUT", "/", status).failed is failed
