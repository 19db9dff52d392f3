"""The versions at a base path: pushing, rolling back, and the lock that both hold."""
