"""Models as ONNX, written and read: the only modules that import the package onnx, of the extra `onnx`."""
