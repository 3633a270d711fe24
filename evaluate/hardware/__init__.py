"""The machine: CPU, memory, GPU, energy, and what went on while something was measured."""
