"""Speed: PyTorch and bundles timed side by side in rounds, and recorded with their machine.

In: bundles. Out: a record (JSON), a page of tables, a picture, the README's block.
May import: `benchmarks.limits`.
"""
