"""Inference engines behind `residency.engine.Engine`."""
