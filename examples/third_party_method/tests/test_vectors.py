"""The method keeps the contract of all methods."""

from meloedit.testing import MethodContract


class TestVectors(MethodContract):
    """What it inherits runs on tiny models of the three families."""

    method = "vectors"
    settings = {"lr": 0.15, "steps": 60}
