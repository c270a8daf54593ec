"""Contract suites, phantoms and examples: shipped, so that others can prove their own adapters."""
