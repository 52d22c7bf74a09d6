"""From protobuf: how the score is to be made, and experiments that compare two ways of that.

Every check raises `InvalidInput` with what was received, what is allowed and what to do.
"""

from typing import Final

from neuralrank.errors import InvalidInput
from neuralrank.v1 import ranking_pb2 as pb
from sidecar.domain import Arm, Experiment, Fusion, Mode, Weights
from sidecar.ranking.experiment import checked
from sidecar.sizes import MAX_NAME, MAX_WEIGHT, at_most, shown

__all__ = ["read_experiment", "read_fusion", "read_weights"]

_WHERE: Final = "options.experiment"


def read_weights(where: str, weights: pb.Weights, defaults: Weights) -> Weights:
    values = {}
    for name in ("relevance", "affinity", "retrieval"):
        value = getattr(weights if weights.HasField(name) else defaults, name)
        if not 0 <= value <= MAX_WEIGHT:
            raise InvalidInput(f"{where}.{name} is {value}; allowed is 0 to {MAX_WEIGHT:,.0f}.")
        values[name] = value
    if not sum(values.values()):
        raise InvalidInput(f"{where} are all 0; at least one must be above 0.")
    for name, of in (("cross_encoder", "its order within relevance"), ("diversity", "novelty")):
        share = getattr(weights if weights.HasField(name) else defaults, name)
        if not 0 <= share <= 1:
            raise InvalidInput(f"{where}.{name} is {share}; allowed is 0 to 1: the share of {of}.")
        values[name] = share
    return Weights(**values)


def read_fusion(where: str, value: int, default: Fusion) -> Fusion:
    if value not in pb.Fusion.values():
        raise InvalidInput(f"{where} is {value}; allowed are {', '.join(pb.Fusion.keys())}.")
    if value == pb.FUSION_UNSPECIFIED:
        return default
    return Fusion.RRF if value == pb.FUSION_RRF else Fusion.WEIGHTS


def read_experiment(given: pb.Experiment, usual: Arm) -> Experiment:
    """
    Args:
        usual: what the request says beside the experiment; an arm changes some of it.
    """
    if given.mode not in pb.ExperimentMode.values():
        raise InvalidInput(
            f"{_WHERE}.mode is {given.mode}; allowed are {', '.join(pb.ExperimentMode.keys())}."
        )
    interleaved = given.mode == pb.EXPERIMENT_MODE_INTERLEAVE
    return checked(
        _WHERE,
        given.name,
        Mode.INTERLEAVE if interleaved else Mode.AB,
        {
            name: _arm(f"{_WHERE}.arms[{shown(name)}]", given.arms[name], usual)
            for name in given.arms
        },
        given.share if given.HasField("share") else 1.0,
    )


def _arm(where: str, given: pb.Arm, usual: Arm) -> Arm:
    at_most(f"{where}.bundle", len(given.bundle), MAX_NAME, "characters")
    return Arm(
        given.bundle or usual.bundle,
        read_weights(f"{where}.weights", given.weights, usual.weights),
        read_fusion(f"{where}.fusion", given.fusion, usual.fusion),
    )
