"""The machine below the runtime: CUDA through pycuda or cuda-bindings, memory, facts, power.

In: what the system reports. Out: `Cuda` (`driver`), device memory, what GPU and CPU are here.
May import: `bundle`.
"""
