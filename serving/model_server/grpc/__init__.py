"""The gRPC side of the server: calls, messages and limits on their cost."""
