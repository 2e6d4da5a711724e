"""Code that is only type-checked."""
