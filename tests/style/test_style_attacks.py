"""docs/security.md names tests that are there, for every class of attacks."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.findall(r"^\| (\d+) \|(.*)\|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE)
CLASSES = 38


def named(cell: str) -> list[tuple[Path, str]]:
    """The tests of a cell: file and name; a name without a file is in the one before."""
    found, file = [], Path()
    for path, name in re.findall(r"`([\w/.]*)(?:::(\w+))?`", cell):
        if path:
            file = ROOT / (path if "/" in path else f"tests/security/{path}")
        found.append((file, name))
    return found


def test_every_class_is_told() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, CLASSES + 1))


def test_every_test_that_is_named_is_there() -> None:
    missing = []
    for number, row in ROWS:
        cells = row.split(" | ")
        assert len(cells) == 4, number
        tests = named(cells[2])
        assert tests, number
        for file, name in tests:
            if not file.is_file() or (name and f"def {name}(" not in file.read_text()):
                missing.append((number, str(file.relative_to(ROOT)), name))
    assert missing == []
