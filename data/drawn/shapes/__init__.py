"""Shapes of things that are drawn: outlines, and the families that are made of them."""
