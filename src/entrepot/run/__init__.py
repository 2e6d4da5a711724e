"""The child of `entrepot run`: its plan, its environment, its runtime directory, its process."""
