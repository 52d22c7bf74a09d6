"""Does the system get better by what users click? `python -m bench.feedback_loop`

Simulated users, whose wishes are the judgments of `esci_en`, use a real shop: OpenSearch with the
plugin and the sidecar. What they click goes into `ubi_events`, and the product's own commands make
a better model of it: `train pull`, `train dataset`, `train reranker`, `models promote`. Then the
users come again. Twice: with position bias taken out of the clicks, and without.

users    what is looked at and clicked, and the UBI documents of it
shop     the running system, its commands and its pages
rounds   one round after the other, each step once
"""
