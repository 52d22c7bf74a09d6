"""The ranking service: filters, scores, orders and explains candidates for a user, over gRPC."""
