"""Late interaction, measured beside the small cross-encoder and not served (decision 019).

    python -m trainer.recipes.late_interaction --out runs/late      (make late-interaction)

reading    texts → tokens, marked as a query's or an item's, and which of them count
student    the cross-encoder's body, with a projection of each token
model      MaxSim in torch
texts      what it reads of the cross-encoder's lists
distil     the training, with the cross-encoder's targets and loss
export     the graph, compared with torch
serving    a query's tokens against stored ones, without torch

Khattab and Zaharia, "ColBERT: Efficient and Effective Passage Search via Contextualized Late
Interaction over BERT" (2020); Santhanam et al., "ColBERTv2" (2021), for learning from a teacher.
"""
