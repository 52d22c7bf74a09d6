"""The user × item ranker, and what it is measured against.

ranker        ŷ = MLP(u, i): attention of the item over the user's events
candidates    which items may be ranked at all, from several sources
neural        the ranker over them, trained on the last items of histories
sasrec, baselines   what it has to beat
comparison    all of them on the same next items

behaviour     what users did, as lists of which something was chosen
learning      the ranker that serves, trained on them
export, graph its bundle
gate          what it must show before it serves

Names of the evaluation are public here; the modules say more.
"""

from trainer.personal.comparison import SYSTEMS, Content, Options, compare
from trainer.personal.sequences import Histories, read_histories, read_targets

__all__ = [
    "SYSTEMS",
    "Content",
    "Histories",
    "Options",
    "compare",
    "read_histories",
    "read_targets",
]
