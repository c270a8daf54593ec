"""The parts of bench/training.py: cases, contenders as processes, judging."""
