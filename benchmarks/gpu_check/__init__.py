"""Checks for a machine with a GPU: `make gpu-check PART=plugin` (runtime, benchmark, network).

In: the card, and a bundle if there is one. Out: JSON, rewritten after each part; an exit status.
Runs from the source tree, with nothing installed. May import: `benchmarks.forms`, `.speed`,
`.limits`, `.accuracy`.
"""
