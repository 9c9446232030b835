"""Table to table: pure functions on DataFrames, grouped by subject."""
