"""TensorRT on NVIDIA GPUs: bundles become engines once, cached, and run with CUDA graphs.

Nothing here loads CUDA or TensorRT when it is imported; both are given to the parts that use them.
"""
