"""A trained network made faster after training, with the proof that nothing was lost; no torch."""
