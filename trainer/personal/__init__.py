"""The user × item ranker.

ranker        ŷ = MLP(u, i): attention of the item over the user's events
behaviour     what users did, as lists of which something was chosen
learning      the ranker that serves, trained on them
export, graph its bundle
gate          what it must show before it serves
sequences     files of histories and next items, which `trainer.next_items` guesses
"""

from trainer.personal.sequences import Histories, read_histories, read_targets

__all__ = ["Histories", "read_histories", "read_targets"]
