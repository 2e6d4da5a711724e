"""The client setup of programs that run other tools: tox, nox, make, just, hatch, shells."""
