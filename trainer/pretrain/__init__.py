"""Pretraining on catalogue and query text: masked words, and which description belongs to a title.

    texts       a catalogue or dataset → single texts and pairs of texts
    tokenizer   a vocabulary trained on them, Chinese and English
    masking     which tokens are hidden, and by what
    model       a BERT with both heads, from a checkpoint or from scratch
    task        what `trainer.loop` trains

Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2019).
"""
