"""From a PyTorch model to ONNX graphs, engines and a bundle. Importing it loads no library."""
