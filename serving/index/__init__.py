"""Top-k search over tag embeddings: exact and ScaNN, its tuning and its recall."""
