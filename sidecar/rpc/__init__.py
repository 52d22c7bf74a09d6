"""gRPC: the service, its messages in and out, its transport."""
