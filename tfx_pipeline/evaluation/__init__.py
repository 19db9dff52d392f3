"""What the Evaluator computes and the gate decides, and drift between days."""
