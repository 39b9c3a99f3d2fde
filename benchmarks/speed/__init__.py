"""Speed, raced: PyTorch and bundles side by side in rounds, written down with their machine.

In: bundles. Out: a record (JSON), a page of tables, a picture, the README's block.
May import: `benchmarks.limits`.
"""
