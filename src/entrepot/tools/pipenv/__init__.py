"""pipenv's client setup."""
