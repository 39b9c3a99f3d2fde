"""Graphs in fewer bits: FP16 with FP32 islands, INT8 by calibration, and FP16 emulated on a CPU.

In: FP32 graphs. Out: graphs of another precision. May import: no other room.
"""
