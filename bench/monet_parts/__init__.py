"""The parts of bench/monet.py: data, shifts, training and findings."""
