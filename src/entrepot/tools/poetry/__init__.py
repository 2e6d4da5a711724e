"""poetry's guide."""
