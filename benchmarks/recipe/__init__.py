"""How the shipped model is trained: pictures that anybody can get, and the settings of the run.

In: packages of Debian and npm. Out: a folder of pictures, a checkpoint with its card.
May import: `benchmarks.accuracy`, `benchmarks.real_v1`.
"""
