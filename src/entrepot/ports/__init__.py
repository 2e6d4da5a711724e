"""What the application needs of the world, as small Protocols."""
