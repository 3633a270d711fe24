"""ONNX Runtime's providers and bindings, behind `evaluate.session`."""
