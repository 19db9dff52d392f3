"""The models of the server: configuration, versions, loading and warm-up."""
