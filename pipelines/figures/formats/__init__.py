"""Formats in which publishers ship figures: one module and one declared mapping each."""
