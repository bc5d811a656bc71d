"""The process that solves one placement: a problem as JSON comes in, its answer as JSON goes out."""

import os
import sys

from bastide.architect.placement import place
from bastide.model.placement import PlacementProblem


def main() -> None:
    """Read, solve, write."""
    os.nice(10)  # guests come first
    problem = PlacementProblem.model_validate_json(sys.stdin.buffer.read())
    sys.stdout.write(place(problem).model_dump_json())


if __name__ == "__main__":
    main()
