"""Terminal tables of runs and benchmarks; also on a device, so with nothing but Python."""
