"""Pages about a training: whole in themselves, closed to the outside, and deaf to markup in what they show."""
