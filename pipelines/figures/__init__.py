"""Figures and captions: from deliveries to training examples."""
