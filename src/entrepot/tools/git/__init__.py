"""git's client setup."""
