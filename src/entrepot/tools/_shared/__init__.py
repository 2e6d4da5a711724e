"""What several tools need, written once. It imports no tool's folder."""
