"""The models of the server: their configuration, versions, loading and warm-up."""
