"""poetry's client setup."""
