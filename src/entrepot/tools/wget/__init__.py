"""wget's guide."""
