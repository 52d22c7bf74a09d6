"""Catalogues as files, and what a product is."""
