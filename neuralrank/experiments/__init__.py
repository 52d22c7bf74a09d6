"""Two ways of ranking compared on users: what is logged of them, and what the logs say.

`attributes` is what a page's log entry (`query_attributes` of UBI) says of its experiment.
"""

from neuralrank.experiments.attributes import ARM, EXPERIMENT, TEAMS, query_attributes

__all__ = ["ARM", "EXPERIMENT", "TEAMS", "query_attributes"]
