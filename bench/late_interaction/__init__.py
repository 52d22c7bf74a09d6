"""Late interaction beside the small cross-encoder: what each is worth, and what it takes.

    python -m bench.late_interaction --late runs/late/late --cross runs/small/bundle
    python -m bench.late_interaction --late runs/late/late time      # a part alone: time, worth

`--late` is what `python -m trainer.recipes.late_interaction` made. Beside it stand neuralrank-small
and, with `--cross`, other bundles. Late interaction does not serve.

time    milliseconds for a query and 100 items, and what is stored of each
worth   nDCG@10 alone and in the blend, by the sidecar's formulas on recorded candidates
"""
