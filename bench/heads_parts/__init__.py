"""Parts of bench/heads.py: the heads and what is done to them, a registration, judging, and the page."""
