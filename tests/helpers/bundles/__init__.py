"""Small bundles, and the graphs in them."""
