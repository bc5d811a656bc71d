"""Laws of the house that no linter knows: who may start processes, how long code may be, what text may not hold."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

SPAWNING_MODULES = {"subprocess", "multiprocessing", "pexpect"}
SPAWNING_CALLS = {
    "create_subprocess_exec",
    "create_subprocess_shell",
    "subprocess_exec",
    "subprocess_shell",
    *(f"os.{name}" for name in ("fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "startfile", "system")),
    *(
        f"os.{kind}{ending}"
        for kind in ("exec", "spawn")
        for ending in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")
    ),
    "pty.fork",
    "pty.spawn",
}
BUDGET_FUNCTION, BUDGET_FUNCTION_MOST = 35, 80
BUDGET_FILE, BUDGET_FILE_MOST = 400, 600

# Split, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b|NotImplementedError\(\)|shell=" + "True")
# Only who runs the tests may leave some out: without root there are no mounts.
LEFT_OUT = re.compile(
    r"\b(pytest\.sk" + r"ip\(|mark\.sk" + r"ip(?!if\(os\.geteuid\(\) != 0)|mark\.xfa" + r"il|importorsk" + r"ip)"
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def spawns(tree: ast.AST) -> Iterator[str]:
    """Everything in a module that starts a process, as `line: what`."""
    for node in ast.walk(tree):
        found: list[str] = []
        if isinstance(node, ast.Import):
            found = [alias.name.split(".")[0] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            found = [module.split(".")[0], *(f"{module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            found = [node.attr, f"{node.value.id}.{node.attr}" if isinstance(node.value, ast.Name) else ""]
        for word in found:
            if word in SPAWNING_MODULES | SPAWNING_CALLS:
                yield f"{getattr(node, 'lineno', 0)}: {word}"


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file with its length in lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name(path)}:{node.lineno} {node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def percentile90(numbers: list[int]) -> int:
    return sorted(numbers)[int(len(numbers) * 0.9)]


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("import subprocess", 1),
        ("from os import fork", 1),
        ("asyncio.create_subprocess_exec('x')", 1),
        ("run(['x'])", 0),
    ],
)
def test_law_finder_finds_what_spawns(code: str, count: int) -> None:
    assert len(list(spawns(ast.parse(code)))) == count


def test_only_host_starts_processes() -> None:
    places = [
        f"{name(path)}:{what}"
        for path in SOURCES
        if ROOT / "src/bastide/host" not in path.parents
        for what in spawns(ast.parse(path.read_text()))
    ]
    assert places == []


def test_functions_stay_within_their_budget() -> None:
    lengths = [row for path in SOURCES for row in functions(path)]
    too_long = [row for path in SOURCES + TESTS for row in functions(path) if row[1] > BUDGET_FUNCTION_MOST]
    assert too_long == []
    assert percentile90([length for _, length in lengths]) < BUDGET_FUNCTION


def test_files_stay_within_their_budget() -> None:
    lengths = {name(path): path.read_text().count("\n") for path in SOURCES + TESTS}
    assert {path: length for path, length in lengths.items() if length > BUDGET_FILE_MOST} == {}
    assert percentile90(list(lengths.values())) < BUDGET_FILE


def test_packages_hold_no_code() -> None:
    version = ROOT / "src/bastide/__init__.py"
    full = [name(path) for path in SOURCES if path.name == "__init__.py" and path != version and path.stat().st_size]
    assert full == []
    assert [type(node) for node in ast.parse(version.read_text()).body[1:]] == [ast.Assign]


def test_nothing_is_left_for_later() -> None:
    places = [
        f"{name(path)}:{number}: {line.strip()}"
        for path in [*SOURCES, *TESTS, ROOT / "bastide", ROOT / ".ci/run"]
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if UNFINISHED.search(line) or LEFT_OUT.search(line)
    ]
    assert places == []


def test_test_files_have_names_of_their_own() -> None:
    names = [path.name for path in TESTS if path.name != "conftest.py"]
    assert sorted({one for one in names if names.count(one) > 1}) == []
    assert [name(path) for path in TESTS if path.name == "__init__.py"] == []
