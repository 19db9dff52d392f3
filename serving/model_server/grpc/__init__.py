"""The gRPC side of the server: calls, messages and what they may cost."""
