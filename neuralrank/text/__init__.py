"""Texts before a model reads them: cleaning, language, what a query excludes, tokens, batches."""
