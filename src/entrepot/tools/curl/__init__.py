"""curl's client setup."""
