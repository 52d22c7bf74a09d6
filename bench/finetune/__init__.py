"""Does fine-tuning on few judgments make English search better? `python -m bench.finetune`

On `icecat_en` and tested on `esci_en`, the other way round, and within one by folds of its queries;
with 50 to 500 judged pairs, all weights or LoRA. What a fine-tuned cross-encoder may change it has
to earn on its own training queries: `share`.

ranked   what the running system gives, with the default models
share    how much of the order is the model's, and whether it has earned it
cells    one training, measured
"""
