"""npm's guide."""
