"""What a change would do, before it is live: variants of index, query and pipeline, compared on
judgments through the real pipeline.

`spec` is what is asked, `variants` what that needs, `bench` makes it in the cluster, `asking` and
`neighbours` measure, `search` looks for better numbers, `results` and `page` say what came out, and
`run` does all of it.
"""

from opensearch_config.tuning.run import discard, tune

__all__ = ["discard", "tune"]
