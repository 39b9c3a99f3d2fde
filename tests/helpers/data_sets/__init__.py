"""Miniature data sets, episodes and videos."""
