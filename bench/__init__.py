"""Benchmarks. Each prints a table for people and writes JSON for machines, as ratios to a peer that
ran in the same process minutes before or after: the machines are shared, so that milliseconds alone
say little.

    python -m bench            all, into bench/results/
    python -m bench latency    one query through the whole stack, by part
    python -m bench models     encoders and cross-encoders, against ONNX Runtime used plainly
    python -m bench overhead   Rank without inference, against an empty gRPC service
    python -m bench sidecar    the sidecar under load and against its peers (only by name)
    python -m bench.soak       a long run with swaps and faults
"""
