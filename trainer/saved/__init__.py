"""The saved form of a trained model: towers with signatures, and explanations of scores."""
