"""Images inside Arrow batches: decoded, measured, cut into panels, brought to the training size."""
