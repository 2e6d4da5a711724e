"""Settings: how they are read, kept in files, and put back."""
