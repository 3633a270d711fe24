"""The bundle that runs on a bare device."""
