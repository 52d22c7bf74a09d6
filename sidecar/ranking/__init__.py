"""From candidates to an order: what `Rank` and `Encode` do."""
