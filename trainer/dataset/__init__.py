"""Training data: one folder, whatever it was made of. Nothing here needs torch.

`format` is the contract, which every training and evaluation reads.
"""

from trainer.dataset.format import (
    BLOCKED,
    EXAMPLES,
    IMPRESSIONS,
    ITEMS,
    NEGATIVES,
    QUERIES,
    SEQUENCES,
    SPLITS,
    Dataset,
    Description,
    Labels,
    Propensities,
    Split,
    Window,
    query_keys,
)

__all__ = [
    "BLOCKED",
    "EXAMPLES",
    "IMPRESSIONS",
    "ITEMS",
    "NEGATIVES",
    "QUERIES",
    "SEQUENCES",
    "SPLITS",
    "Dataset",
    "Description",
    "Labels",
    "Propensities",
    "Split",
    "Window",
    "query_keys",
]
