"""What runs a model's graph. One small protocol; ONNX Runtime on the CPU is the default."""
