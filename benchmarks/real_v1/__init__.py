"""real-v1: real photographs to judge models by, which no recipe may train on.

In: packages that anybody can install, and the masks in this folder. Out: a folder dataset, and a
model's figures on its three forms: clean, mosaic, absent.
May import: `benchmarks.accuracy`.
"""
