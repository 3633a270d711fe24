"""Networks as structures: channels removed, shortcuts rewritten, exported to ONNX, measured in every unit."""
