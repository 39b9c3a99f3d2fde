"""Serving: the web page, a Triton model repository and its client, and sweeps with Ray."""
