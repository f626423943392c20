"""Scans of nobody: made-up patients, so that everything can be tried without data, and test objects to measure on."""

from __future__ import annotations

from data_prep.phantom.anthropomorphic import PhantomRecipe, ensure_dataset, make_dataset
from data_prep.phantom.physics import PhysicsRecipe, make_physics

__all__ = ["PhantomRecipe", "PhysicsRecipe", "ensure_dataset", "make_dataset", "make_physics"]
