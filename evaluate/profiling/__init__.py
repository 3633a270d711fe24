"""Where the time of a call goes: the parts behind `evaluate.profiling.profile`."""
