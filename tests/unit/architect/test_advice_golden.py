"""The cases of tests/golden/advice: a service, and the verdict that it must come to.

`rules` and `against` are all rules that fire, in their order; `conflicts`, `warnings` and `questions` are what stands
before the colon, or the key. What is left out is empty; `questions` are then not looked at.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml

from bastide.architect.advice import advise
from bastide.base.errors import InvalidParameter
from bastide.model.advice import Advice, HostFacts
from bastide.model.catalog import CatalogEntry
from bastide.model.service import Service

CASES = sorted((Path(__file__).parents[2] / "golden/advice").glob("*.yaml"))
IMAGES = {"ct/debian-12": "local:vztmpl/debian-12.tar.zst", "vm/debian-12": "local:import/debian-12.qcow2"}


def entry_of(values: dict[str, Any] | None) -> CatalogEntry | None:
    if values is None:
        return None
    size = {
        "minimum": {"cores": 1, "memory": "256M", "disk": "2G"},
        "usual": {"cores": 1, "memory": "1G", "disk": "8G"},
    }
    usual = {"name": "thing", "title": "Thing", "summary": "a thing", "size": size, "source": "made up"}
    return CatalogEntry.model_validate({**usual, **values})


def read(path: Path) -> tuple[Service, CatalogEntry | None, HostFacts, dict[str, Any]]:
    case = yaml.safe_load(path.read_text())
    host = HostFacts.model_validate({"images": IMAGES, "render": ["/dev/dri/renderD128"], **case.get("host", {})})
    return Service.model_validate(case["service"]), entry_of(case.get("entry")), host, case["expect"]


def keys(texts: tuple[str, ...]) -> list[str]:
    return [text.partition(":")[0] for text in texts]


def seen(advice: Advice) -> dict[str, Any]:
    return {
        "kind": advice.kind,
        "confidence": advice.confidence,
        "rules": [rule.id for rule in advice.rules],
        "against": [rule.id for rule in advice.against],
        "conflicts": keys(advice.conflicts),
        "warnings": [key for key in keys(advice.warnings) if key != "image"],
        "questions": [question.key for question in advice.questions],
        "unless": len(advice.unless),
    }


def test_there_are_enough() -> None:
    assert len(CASES) >= 80


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    service, entry, host, expected = read(path)
    if "error" in expected:
        with pytest.raises(InvalidParameter) as caught:
            advise(service, entry, host)
        assert list(caught.value.errors) == expected["error"]
        return
    advice = advise(service, entry, host)
    found = seen(advice)
    wanted = {"against": [], "conflicts": [], "warnings": [], **expected}
    assert {key: found[key] for key in wanted} == wanted
    assert advice.summary.count("\n") == 0
    assert advice.summary.endswith(".")
