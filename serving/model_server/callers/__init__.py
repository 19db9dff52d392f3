"""Access of callers to the server: security, limits and reloads."""
