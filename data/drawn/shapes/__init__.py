"""Shapes of drawn things: outlines, and the families built from them."""
