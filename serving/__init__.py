"""Past one process: a Triton model repository and its client, and sweeps over folders with Ray."""
