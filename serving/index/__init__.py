"""Top-k search over tag embeddings, exact or by ScaNN, with ScaNN's tuning and recall."""
