"""The REST side of the server: sockets, requests, JSON."""
