"""The lock files: everything hashed, no address in them, and licences that go with ours."""

import json
import re
import tomllib
from importlib.metadata import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ["requirements.txt", "requirements-test.txt", "requirements-page.txt"]

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
    assert len(rows) > (1 if lock == "requirements-page.txt" else 10)
    assert [str(one) for one, hashes in rows if not hashes or not str(one.specifier).startswith("==")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_server(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def test_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    run = {canonicalize_name(Requirement(one).name) for one in project["project"]["dependencies"]}
    test = {canonicalize_name(Requirement(one).name) for one in project["dependency-groups"]["test"]}
    locks = {lock: {canonicalize_name(one.name): one.specifier for one, _ in locked(lock)} for lock in LOCKS}
    page = {canonicalize_name(Requirement(one).name) for one in project["dependency-groups"]["page"]}
    assert run <= locks["requirements.txt"].keys()
    assert page <= locks["requirements-page.txt"].keys()
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


def page_packages() -> dict[str, dict[str, object]]:
    """What `npm ci` installs, by its place below `ui/`."""
    lock = json.loads((ROOT / "ui/package-lock.json").read_text())
    return {place: one for place, one in lock["packages"].items() if place}


def test_the_lock_of_the_page_hashes_everything_and_names_no_server() -> None:
    packages = page_packages()
    assert len(packages) > 50
    assert [place for place, one in packages.items() if not str(one.get("integrity", "")).startswith("sha512-")] == []
    assert [place for place, one in packages.items() if "resolved" in one] == []


def test_licences_of_the_pages_packages_go_with_ours() -> None:
    shipped = {place: str(one.get("license", "")) for place, one in page_packages().items() if not one.get("dev")}
    assert {place: licence for place, licence in shipped.items() if not FREE.search(licence)} == {}
