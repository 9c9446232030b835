"""What runs in a training process, and what starts such processes."""
