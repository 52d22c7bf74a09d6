"""What a model is worth: judgments, clicks that were logged, and what it does to whom.

A bundle is scored by the code that serves it; nothing here needs torch.
"""
