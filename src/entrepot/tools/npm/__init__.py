"""npm's client setup."""
