"""The network in PyTorch on a device, in every form that might be fastest: whole, and in parts.

In: a network, a case, ways to time a call. Out: rows of milliseconds, compared with the model.
May import: `benchmarks.speed`, `.limits`.
"""
