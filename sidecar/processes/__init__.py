"""Several processes on one port, and what keeps them running."""
