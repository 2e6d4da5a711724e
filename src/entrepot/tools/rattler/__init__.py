"""The client setup of rattler and of pixi, which is built on it."""
