"""Runs the parts that are named, or all."""

import sys

from bench.entry import entry
from bench.sidecar import PARTS, run


def main() -> None:
    """The command line."""
    unknown = set(sys.argv[1:]) - set(PARTS)
    if unknown:
        sys.exit(f"bench.sidecar: no part {sorted(unknown)}; there is: {', '.join(PARTS)}")
    run(sys.argv[1:])


if __name__ == "__main__":
    entry(main)
