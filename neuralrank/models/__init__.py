"""Makes bundles from what there is: packages that carry weights, local folders, the hub.

add_defaults    the models that `neuralrank up` serves
add             one model, from `package:NAME`, `hub:ORG/NAME` or a local folder
"""

from neuralrank.models.add import DEFAULTS, add, add_defaults

__all__ = ["DEFAULTS", "add", "add_defaults"]
