"""git's guide."""
