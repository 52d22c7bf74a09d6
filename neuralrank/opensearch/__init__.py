"""OpenSearch: the connection, a page of results, the indexes behind an alias, reading all of one,
writing in bulk."""
