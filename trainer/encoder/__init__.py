"""Fine-tuning of the bi-encoder: an item that answers a query comes near to it, others go away.

examples   a dataset → pairs of a query and a right item, with wrong ones
loss       the contrastive loss, alone or for several lengths of vector
search     how good exact search is with the vectors, which training stops by
task       what `trainer.loop` trains
run        from a dataset to a published bundle
"""

from trainer.encoder.run import EncoderOptions, Trained, train_encoder

__all__ = ["EncoderOptions", "Trained", "train_encoder"]
