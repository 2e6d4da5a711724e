"""curl's guide."""
