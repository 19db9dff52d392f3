"""The training loop: steps, validation, checkpoints, warm start, devices and memory."""
