"""What `compress.training.train` is made of: the loop, its settings, schedules, losses, the teacher, checkpoints."""
