"""Tests that every editing method must pass, for authors of methods: here, and in packages of their own.

A package tests its method by a subclass, in a file of its tests::

    from meloedit.testing import MethodContract

    class TestVectors(MethodContract):
        method = "vectors"
        settings = {"steps": 60, "lr": 0.1}

pytest collects what the class inherits. It is a class and not a plugin of pytest, so that nothing is loaded into test
runs that do not ask for it, and a package can override a test, or leave it out and say why. The models are tiny and
random, and are made on the spot: the tests need no download, and take seconds.
"""

from .contract import MethodContract
from .models import FAMILIES, edits_of, tiny_model, training_edits

__all__ = ["FAMILIES", "MethodContract", "edits_of", "tiny_model", "training_edits"]
