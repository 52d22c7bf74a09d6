"""Runs the benchmarks that are named, or all."""

import sys

from bench import latency, models

BENCHMARKS = {"models": models.run, "latency": latency.run}


def main() -> None:
    """Runs what is named on the command line."""
    unknown = set(sys.argv[1:]) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"bench: no benchmark {sorted(unknown)}; there is: {', '.join(BENCHMARKS)}")
    for name in sys.argv[1:] or BENCHMARKS:
        BENCHMARKS[name]()


if __name__ == "__main__":
    main()
