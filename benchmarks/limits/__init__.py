"""Limits of speed: counted work, measured and published rates, and estimates from both.

In: ONNX graphs, a machine. Out: FLOP and bytes, rooflines, a band of predicted latency.
May import: no other room.
"""
