"""The doors to archives: each file implements the port `residency.archive.Archive` for one kind."""
