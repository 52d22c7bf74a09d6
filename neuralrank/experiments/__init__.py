"""Two ways of ranking compared on users: what is logged of them, and what the logs say.

`attributes` is what a page's log entry (`query_attributes` of UBI) says of its experiment, `pages`
reads these, `statistics` compares the arms, and `size` says how many users that needs.
"""

from neuralrank.experiments.attributes import ARM, EXPERIMENT, TEAMS, query_attributes
from neuralrank.experiments.pages import Page, read_pages
from neuralrank.experiments.size import users_for_lift, users_for_preference
from neuralrank.experiments.statistics import (
    Compared,
    Preferred,
    Tally,
)
from neuralrank.ubi.rows import Skipped

__all__ = [
    "ARM",
    "EXPERIMENT",
    "TEAMS",
    "Compared",
    "Page",
    "Preferred",
    "Skipped",
    "Tally",
    "query_attributes",
    "read_pages",
    "users_for_lift",
    "users_for_preference",
]
