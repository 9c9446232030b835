"""The prototypes side by side: who is better, by how much, and at what cost."""
