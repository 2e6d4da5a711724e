"""The client setup of Python scripts that download by themselves, with requests or urllib."""
