"""INT8: activation ranges from episodes, placement of Q/DQ pairs, and each layer's sensitivity."""
