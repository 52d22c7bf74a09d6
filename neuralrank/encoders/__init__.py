"""The encoder, the cross-encoder and the image encoder: bundles that read texts and photos, run."""
