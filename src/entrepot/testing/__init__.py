"""Public helpers for tests: the store contract suite, a manual clock, a small origin."""
