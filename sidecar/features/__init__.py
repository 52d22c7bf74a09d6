"""What is known of items and users, read from OpenSearch and kept for a while."""
