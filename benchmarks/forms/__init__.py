"""The network in PyTorch on a device, in every form that might win there: whole, and in parts.

In: a network, a case, ways to time a call. Out: rows of milliseconds, each judged by the model.
May import: `benchmarks.speed`, `.limits`.
"""
