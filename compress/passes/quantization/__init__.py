"""Quantization of the exported graph: calibration, integer types by the target CPU."""
