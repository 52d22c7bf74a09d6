"""Runs the benchmarks that are named, or all but those that run on request only."""

import sys

from bench import (
    compress,
    deadline,
    latency,
    memory,
    models,
    overhead,
    photos,
    recommend,
    rerankers,
    sidecar,
    swaps,
)
from bench.entry import entry

BENCHMARKS = {
    "models": models.run,
    "latency": latency.run,
    "overhead": overhead.run,
    "sidecar": sidecar.run,
    "deadline": deadline.run,
    "swaps": swaps.run,
    "memory": memory.run,
    "compress": compress.run,
    "rerankers": rerankers.run,
    "photos": photos.run,
    "recommend": recommend.run,
}
# Minutes, downloads of several GB, data that is not in the repository: only where asked for.
ON_REQUEST = {
    "sidecar", "deadline", "swaps", "memory", "compress", "rerankers", "photos", "recommend",
}  # fmt: skip


def main() -> None:
    """Runs what is named on the command line."""
    unknown = set(sys.argv[1:]) - set(BENCHMARKS)
    if unknown:
        sys.exit(f"bench: no benchmark {sorted(unknown)}; there is: {', '.join(BENCHMARKS)}")
    for name in sys.argv[1:] or [name for name in BENCHMARKS if name not in ON_REQUEST]:
        BENCHMARKS[name]()


if __name__ == "__main__":
    entry(main)
