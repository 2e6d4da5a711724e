"""pipenv's guide."""
