"""Makes bundles from what there is: packages that carry weights, local folders, the hub.

add_defaults    the models that `neuralrank up` serves
add             one model, from `package:NAME`, `hub:ORG/NAME` or a local folder
checkpoint      the weights of such a source, to be trained further
measured        a bundle from a graph and a tokenizer, with calibration and golden outputs
primary_subtags tags of languages as a manifest has them
"""

from neuralrank.models.add import (
    EncoderInputs,
    add,
    add_defaults,
    checkpoint,
    measured,
    primary_subtags,
)
from neuralrank.models.checkpoint import Checkpoint

__all__ = [
    "Checkpoint",
    "EncoderInputs",
    "add",
    "add_defaults",
    "checkpoint",
    "measured",
    "primary_subtags",
]
