"""Reports: what a machine can do (`diagnosis`), what a bundle holds (`inspection`).

In: this machine, a bundle. Out: reports, as JSON and as tables for a terminal.
May import: `export.engines`.
"""
