"""What the server counts, and the page that Prometheus reads."""
