"""What is published of plans: the schema is made from the records, and the examples in the docs are read by them."""

import json
import re
from pathlib import Path

import jsonschema_rs
import pytest

from bastide.model.documents import load, parse
from bastide.model.homelab import Homelab
from bastide.model.homelab_schema import schema

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = re.findall(r"```yaml\n(.*?)```", (ROOT / "docs/plans.md").read_text(), re.DOTALL)


def test_the_schema_of_plans_is_current() -> None:
    """Made by `bastide plan --schema > docs/homelab.schema.json`."""
    published = json.loads((ROOT / "docs/homelab.schema.json").read_text())
    assert published == schema()


def test_the_schema_names_every_key() -> None:
    keys = schema()["$defs"]["PlannedService"]["properties"]
    assert all(value["description"] for value in keys.values())
    assert schema()["additionalProperties"] is False


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_plans_are_plans(text: str) -> None:
    assert parse(text, Homelab, "plan").services


@pytest.mark.parametrize("text", EXAMPLES)
def test_examples_of_plans_fulfil_the_schema(text: str) -> None:
    jsonschema_rs.validate(schema(), load(text)[0])


@pytest.mark.parametrize("service", [{}, {"name": "a", "colour": "red"}, {"name": "a", "kind": "lxc"}])
def test_the_schema_refuses_what_is_no_plan(service: dict[str, str]) -> None:
    with pytest.raises(jsonschema_rs.ValidationError):
        jsonschema_rs.validate(schema(), {"name": "lab", "services": [service]})


def test_there_are_examples_of_plans() -> None:
    assert EXAMPLES
