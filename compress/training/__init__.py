"""What `compress.train` is made of: the loop, its settings, schedules, losses, the teacher, checkpoints."""
