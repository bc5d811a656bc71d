"""atheris: fuzzing of one parser with a view into which of its lines were reached.

    .venv/bin/python tests/fuzz/guided.py calendar --seconds 60
    .venv/bin/python tests/fuzz/guided.py --all --seconds 60      # one after the other

It begins with the corpus. What breaks a parser is written below the folder that `--keep` names and fails the run: it
becomes a seed in `corpus/NAME/` when the parser is mended. atheris is in the dependency group `fuzz`, which no lock
holds: `uv pip install atheris` into the environment.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

# Longer data is what the test with a megabyte is for.
_LONGEST = 16 * 1024
_MEMORY = 1500


def fuzz(parser: Callable[[bytes], None], seeds: Sequence[bytes], options: Sequence[str]) -> None:
    """Never returns: libFuzzer ends the process, with 0 when nothing was found."""
    with tempfile.TemporaryDirectory(prefix="bst-fuzz-") as folder:
        for number, seed in enumerate(seeds):
            Path(folder, f"seed-{number}").write_bytes(seed[:_LONGEST])
        atheris.Setup([sys.argv[0], *options, folder], parser)
        atheris.Fuzz()


def main() -> int:
    """The number of parsers that broke."""
    reader = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    reader.add_argument("names", nargs="*", help="parsers, as `targets.py` calls them")
    reader.add_argument("--all", action="store_true", help="every parser")
    reader.add_argument("--seconds", type=int, default=60, help="for each")
    reader.add_argument("--keep", type=Path, default=Path("crashes"), help="folder for what broke one")
    given = reader.parse_args()
    given.keep.mkdir(parents=True, exist_ok=True)
    with atheris.instrument_imports(include=["bastide", "python_multipart"]):
        from fuzz.targets import TARGETS  # noqa: PLC0415 - what is imported here is what atheris sees into
    broken = []
    for name in sorted(TARGETS) if given.all else given.names:
        options = [f"-max_total_time={given.seconds}", f"-max_len={_LONGEST}", "-timeout=20", "-verbosity=0",
                   f"-rss_limit_mb={_MEMORY}", f"-artifact_prefix={given.keep / name}-",
                   "-print_final_stats=1"]  # fmt: skip
        print(f"== {name}", flush=True)
        # A process each, of one that has them all imported: importing takes longer than many a parser's turn.
        child = os.fork()
        if child == 0:
            fuzz(TARGETS[name], TARGETS[name].seeds(), options)
        if os.waitpid(child, 0)[1]:
            broken.append(name)
    print(f"broken: {broken or 'none'}")
    return len(broken)


if __name__ == "__main__":
    sys.exit(main())
