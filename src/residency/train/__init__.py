"""Training: from a training file to weights, and from weights to one ONNX graph. Nothing heavy is imported here."""
