"""ONNX Runtime: sessions, providers, inputs bound by name."""
