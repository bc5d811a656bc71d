"""What looks dangerous in the code, what is known of the packages, and whether the proofs that are named are there."""

import ast
import datetime
import functools
import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent
ADVISORIES = Path(__file__).with_name("advisories.json")
_PIN = re.compile(r"(?m)^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)")
_TEST_PATH = re.compile(r"`((?:tests|ui)/[A-Za-z0-9_./*-]+)(?:::(\w+))?`")


def test_bandit_finds_nothing_without_a_reason() -> None:
    """Without the reason at any one line that bandit finds, this fails.

    ruff has bandit's rules under the same numbers, so that one mark serves both: `noqa: S108 - why`.
    """
    argv = [PROGRAMS / "bandit", "-q", "-r", "src/bastide", "-c", "pyproject.toml", "-f", "json"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    report = json.loads(done.stdout[done.stdout.index("{") :])
    assert report["errors"] == []
    assert len(report["metrics"]) > 300
    assert [told for one in report["results"] if (told := _unexplained(one))] == []


def _unexplained(found: dict[str, Any]) -> str | None:
    lines = (ROOT / found["filename"]).read_text().splitlines()
    text = "\n".join(lines[number - 1] for number in found["line_range"])
    if re.search(rf"noqa: [A-Z0-9, ]*\bS{found['test_id'][1:]}\b[A-Z0-9, ]* - \S", text):
        return None
    return f"{found['filename']}:{found['line_number']} {found['test_id']} {found['issue_text']}"


def test_what_is_skipped_for_bandit_says_why() -> None:
    lines = [line for path in (ROOT / "src").rglob("*.py") for line in path.read_text().splitlines() if "nosec" in line]
    assert [line for line in lines if not re.search(r"# nosec B\d{3} - \S", line)] == []


@functools.cache
def _snapshot() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ADVISORIES.read_text())
    return found


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-test.txt", "requirements-page.txt"])
def test_no_pin_has_a_known_weakness(lock: str) -> None:
    """A pin in the range of one of `advisories.json` fails it. What is newer than that file, pip-audit knows."""
    pins = _PIN.findall((ROOT / lock).read_text())
    assert pins
    assert weak({canonicalize_name(name): version for name, version in pins}, _snapshot()["python"]) == []


def test_no_package_of_the_page_has_a_known_weakness() -> None:
    packages = json.loads((ROOT / "ui/package-lock.json").read_text())["packages"]
    pins = {place.rpartition("node_modules/")[2]: one["version"] for place, one in packages.items() if place}
    assert weak(pins, _snapshot()["npm"]) == []


def weak(pins: dict[str, str], known: dict[str, dict[str, str]]) -> list[str]:
    """The pins that an advisory is about."""
    return [
        f"{name} {pins[name]}: {advisory}"
        for name, rows in known.items()
        for advisory, affected in rows.items()
        if name in pins and any(_within(pins[name], part) for part in affected.split("|"))
    ]


def _within(version: str, affected: str) -> bool:
    try:
        return SpecifierSet(affected).contains(version, prereleases=True)
    except InvalidVersion:  # npm's form of a version before a release
        return SpecifierSet(affected).contains(version.partition("-")[0])


def test_the_comparison_finds_what_is_weak() -> None:
    known = {"cryptography": {"CVE-2023-49083": ">=3.1,<41.0.6"}, "a": {"X": "<1|>=2,<2.3"}}
    assert weak({"cryptography": "41.0.5", "a": "1.5"}, known) == ["cryptography 41.0.5: CVE-2023-49083"]
    assert weak({"a": "2.0", "cryptography": "41.0.6"}, known) == ["a 2.0: X"]


def test_the_advisories_are_about_what_is_used() -> None:
    """And their age is told: a warning when nobody has looked for half a year."""
    snapshot = _snapshot()
    pins = {canonicalize_name(name) for name, _ in _PIN.findall((ROOT / "requirements-test.txt").read_text())}
    assert len(snapshot["python"].keys() & pins) >= 10
    for rows in (*snapshot["python"].values(), *snapshot["npm"].values()):
        assert all(SpecifierSet(part) for affected in rows.values() for part in affected.split("|"))
    age = (datetime.datetime.now(datetime.UTC).date() - datetime.date.fromisoformat(snapshot["until"])).days
    if age > 180:
        warnings.warn(
            f"advisories.json knows nothing of the last {age} days: run pip-audit and npm audit", stacklevel=1
        )


def test_every_proof_that_is_named_is_there() -> None:
    """A test that is renamed and still named in a document fails it."""
    missing = []
    documents = [path for path in (ROOT / "SECURITY.md", ROOT / "docs/security.md") if path.exists()]
    assert documents
    named = [(path.name, *found) for path in documents for found in _TEST_PATH.findall(path.read_text())]
    assert named
    for document, place, test in named:
        files = sorted(ROOT.glob(place.rstrip("/")))
        if not files or (test and test not in {name for file in files for name in _tests(file)}):
            missing.append(f"{document}: {place}{'::' if test else ''}{test}")
    assert missing == []


def _tests(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}  # fmt: skip


def test_no_file_is_made_where_everybody_writes() -> None:
    """Attack class 37. A temporary file or folder of ours lies in a folder of ours: with `dir` left out, this fails.

    The fakes, which run in tests and for trying things out, are left out.
    """
    made = [
        (path, call)
        for path in (ROOT / "src/bastide").rglob("*.py")
        if not path.name.startswith("fake")
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and any(_is_maker(part) for part in (call.func, *call.args[:1]))
    ]
    assert len(made) > 3
    assert [
        f"{path}:{call.lineno}" for path, call in made if not any(word.arg == "dir" for word in call.keywords)
    ] == []


def _is_maker(part: ast.expr) -> bool:
    """Whether it is a function that makes a temporary file, called or handed to a thread."""
    return isinstance(part, ast.Attribute) and ast.unparse(part).startswith("tempfile.")
