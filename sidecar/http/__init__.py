"""HTTP beside gRPC: rerank APIs of others, probes, metrics and an OpenAPI document.

Everything that costs anything goes through what gRPC goes through: the same admission, models,
ranker and inference. FastAPI is imported only where `http_listen` is set.
"""
