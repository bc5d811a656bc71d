"""The linters, run as tests: what they refuse does not come in."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = Path(sys.executable).parent

LINTERS = {
    "ruff-check": ["ruff", "check", "--quiet", "src", "tests"],
    "ruff-format": ["ruff", "format", "--check", "--quiet", "src", "tests"],
    "mypy": ["mypy", "--no-error-summary"],
    "import-laws": ["lint-imports", "--no-cache"],
    "shellcheck": ["shellcheck", "bastide", ".ci/run", "packaging/build-deb"],
}


@pytest.mark.parametrize("argv", LINTERS.values(), ids=LINTERS.keys())
def test_linter_has_nothing_to_say(argv: list[str]) -> None:
    done = subprocess.run([PROGRAMS / argv[0], *argv[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
