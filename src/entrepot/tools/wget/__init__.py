"""wget's client setup."""
