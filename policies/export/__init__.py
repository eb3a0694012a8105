"""A policy for other runtimes: ONNX, and a folder that drives without torch."""
