"""Text models in torch: from whatever weights there are, and back to a bundle.

read_source   package:, hub:, a folder, a run, a bundle → Checkpoint
TextModel     a cross-encoder or bi-encoder that computes what its exported graph will
Reader        texts → tensors, as they are read when a model serves
adapt         full, lora, adalora, prefix, adapters; `merged` undoes it
export        a bundle, compared with torch
"""

from trainer.text.export import Agreement, export
from trainer.text.methods import Adapted, adapt, merged
from trainer.text.model import TextModel, sizes_of, weights_of
from trainer.text.reading import Reader
from trainer.text.scoring import encode, run, score_pairs
from trainer.text.sources import read_source

__all__ = [
    "Adapted",
    "Agreement",
    "Reader",
    "TextModel",
    "adapt",
    "encode",
    "export",
    "merged",
    "read_source",
    "run",
    "score_pairs",
    "sizes_of",
    "weights_of",
]
