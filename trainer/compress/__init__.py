"""Smaller models from larger ones: structured pruning, distillation, int8."""
