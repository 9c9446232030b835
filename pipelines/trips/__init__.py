"""Trips: delivered files become rows as text, then clean trips and rejected rows."""
