"""UBI queries and events of OpenSearch, on disk as Parquet. Nothing here needs torch.

`pull` fetches and cleans them, `Logs` is what lies in the folder afterwards.
"""

from trainer.feedback.cleaning import REASONS, Limits
from trainer.feedback.logs import EVENTS, QUERIES, Logs, Pulled
from trainer.feedback.pull import Request, pull

__all__ = ["EVENTS", "QUERIES", "REASONS", "Limits", "Logs", "Pulled", "Request", "pull"]
