"""The parts of bench/acs.py: data, networks, runs and costs."""
