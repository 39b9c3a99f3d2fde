"""The CUDA kernels compiled for the CPU, and what they are given."""
