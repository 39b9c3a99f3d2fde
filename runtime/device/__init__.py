"""The machine: CUDA through pycuda or cuda-bindings, device memory, hardware facts, power.

In: the system's drivers and files. Out: `Cuda` (`driver`), device memory, facts of GPU and CPU.
May import: `bundle`.
"""
