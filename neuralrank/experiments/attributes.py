"""What `query_attributes` of UBI say of a page's experiment."""

from collections.abc import Sequence
from typing import Final

from neuralrank.v1 import ranking_pb2 as pb

__all__ = ["ARM", "ARMS", "EXPERIMENT", "TEAMS", "query_attributes"]

# The experiment's name; whose ranking it was ("A" or "B"); and of an interleaved page, one letter
# for each of `query_response_hit_ids`, in their order: "A", "B", or "-" for nobody's.
EXPERIMENT: Final = "experiment"
ARM: Final = "arm"
TEAMS: Final = "teams"
ARMS: Final = ("A", "B")
_NOBODY: Final = "-"


def query_attributes(
    response: pb.RankResponse, shown: Sequence[str] | None = None
) -> dict[str, str]:
    """What to log of a page that `Rank` made: `query_attributes` of its UBI query.

    Args:
        shown: the ids that stand on the page, in their order, which is that of
            `query_response_hit_ids`; also those that were put there beside the results, which are
            nobody's. None: all results.

    Returns:
        Empty where no experiment was asked for, or the request took no part.
    """
    joined = response.experiment
    if not joined.name or joined.left_out:
        return {}
    if joined.arm:
        return {EXPERIMENT: joined.name, ARM: joined.arm}
    teams = {result.id: result.team for result in response.results}
    ids = teams if shown is None else shown
    return {EXPERIMENT: joined.name, TEAMS: "".join(teams.get(name) or _NOBODY for name in ids)}
