"""Model bundles: what one holds, the registry that they are published to, which of a name serves,
and which must first show that they are better."""
