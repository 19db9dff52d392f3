"""What is saved of a trained model: towers with signatures, and their explanations."""
