"""The parts of a comparison: candidates, inputs, supervised steps, statistics, the Record."""
