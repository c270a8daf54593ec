"""Files that people exchange outside an archive; bytes to values and back, no disk."""
