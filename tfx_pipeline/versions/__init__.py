"""The versions at a base path: pushing, rolling back, the lock that both hold."""
