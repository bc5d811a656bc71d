"""The lock files: everything hashed, no address in them, and licences that go with ours."""

import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.txt", "requirements-test.txt"]

# Licences under which code may be combined with Apache-2.0 code and handed on.
FREE = re.compile(r"apache|bsd|mit\b|\bisc\b|psf|python software|mpl|mozilla|unlicense|0bsd|zero-clause|lgpl|cc0", re.I)

# Packages whose metadata says nothing, with what their licence file says.
SILENT = {"python-pam": "MIT"}


def locked(lock: str) -> list[tuple[Requirement, int]]:
    """Each requirement of a lock file with the number of its hashes."""
    text = re.sub(r"(?m)^\s*#.*$", "", (ROOT / lock).read_text()).replace("\\\n", " ")
    rows = [line.strip() for line in text.splitlines() if line.strip()]
    return [(Requirement(row.split("--hash")[0].strip()), row.count("--hash=sha256:")) for row in rows]


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_pins_and_hashes_everything(lock: str) -> None:
    rows = locked(lock)
    assert len(rows) > 10
    assert [str(one) for one, hashes in rows if not hashes or not str(one.specifier).startswith("==")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_server(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = {canonicalize_name(Requirement(one).name) for one in project["project"]["dependencies"]}
    test = {canonicalize_name(Requirement(one).name) for one in project["dependency-groups"]["test"]}
    locks = {lock: {canonicalize_name(one.name): one.specifier for one, _ in locked(lock)} for lock in LOCKS}
    assert run <= locks["requirements.txt"].keys()
    assert test <= locks["requirements-test.txt"].keys()
    assert locks["requirements.txt"].items() <= locks["requirements-test.txt"].items()


def test_licences_go_with_ours() -> None:
    foreign = {}
    for one, _ in locked("requirements.txt"):
        if one.marker and not one.marker.evaluate():
            continue
        fields = metadata(one.name)
        words = [SILENT.get(one.name, ""), fields.get("License-Expression") or "", (fields.get("License") or "")[:200]]
        words += [row for row in fields.get_all("Classifier") or [] if row.startswith("License")]
        if not FREE.search(" ".join(words)):
            foreign[one.name] = words
    assert foreign == {}
