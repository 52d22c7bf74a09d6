"""Guessing users' next items over a whole catalogue, and what that is measured against.

candidates    which items may be ranked at all, from several sources
neural        the ranker of `trainer.personal` over them, trained on the last items of histories
sasrec, baselines   what it has to beat
comparison    all of them on the same next items

Names of the evaluation are public here; the modules say more.
"""

from trainer.next_items.comparison import SYSTEMS, Content, Options, compare

__all__ = ["SYSTEMS", "Content", "Options", "compare"]
