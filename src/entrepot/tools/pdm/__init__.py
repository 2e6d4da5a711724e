"""pdm's client setup."""
