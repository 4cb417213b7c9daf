"""Robustness to what somebody does to the image: an attack, a corruption, a shift."""
