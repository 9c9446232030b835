"""What is delivered: finding it, reading lists and archives, naming rows by their content."""
