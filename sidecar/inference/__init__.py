"""How models run: one queue over all requests, batches, caches."""
