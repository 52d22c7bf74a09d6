"""The small cross-encoder for Chinese and English that `neuralrank up` serves by default.

    python -m trainer.recipes.small_reranker --out runs/small      (make small-reranker)

goods      catalogues whose licences allow it, and Chinese goods that are made up
queries    queries that people could have asked for them, made from their words
lists      for each query its own item and what BM25, neighbours and chance find beside it
teacher    what larger models say of these pairs
student    two layers of the multilingual encoder, with fewer words and neurons
material   all of these together, kept in the run's folder
listed     learning to order lists as the teachers do, whatever reads them
distil     the training, and the bundle

`trainer.recipes.late_interaction` learns from the same.

No judgment and no click is used: the data sets' judgments only measure it.
"""
