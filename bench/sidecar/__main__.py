"""Runs the parts that are named, or all."""

import sys

from bench.sidecar import PARTS, run

unknown = set(sys.argv[1:]) - set(PARTS)
if unknown:
    sys.exit(f"bench.sidecar: no part {sorted(unknown)}; there is: {', '.join(PARTS)}")
run(sys.argv[1:])
