"""From feedback logs in OpenSearch to a better model in service. The only place with torch.

    feedback/    UBI events of OpenSearch → Parquet
    dataset/     logs and judgment files → training examples, split by time
    loop/        the one training loop: options, checkpoints, resume, trackers
    text/        bi-encoder and cross-encoder: models, losses, export to a bundle
    personal/    the user × item ranker and what it is measured against
    compress/    pruning, distillation, int8
    evaluation/  metrics, segments, robustness, bias, counterfactual estimates, report
    recipes/     how the bundles that ship with neuralrank were made

Needs the extra `train`. `LOG.md` keeps the dated runs, failures included.
"""
