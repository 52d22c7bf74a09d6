"""Which bundles serve: loaded, checked, swapped, tried out."""
