"""pdm's guide."""
