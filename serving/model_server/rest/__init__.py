"""The REST side of the server: sockets, requests and JSON."""
