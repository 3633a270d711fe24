"""What a bundle for a device needs from a run: its models, its samples, its conversion."""
