"""OpenSearch: the connection, the indexes behind an alias, reading all of one, writing in bulk."""
