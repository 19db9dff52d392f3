"""What a study compares: its configuration and what that means."""
