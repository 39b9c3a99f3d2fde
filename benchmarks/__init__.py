"""Measurements of speed and accuracy, estimates of their limits, and reports."""
