"""Every shape of search that OpenSearch has, on a real node with the plugin and a real sidecar."""
