"""Scans of nobody: made-up patients, so that everything can be tried without data, and test objects to measure on."""

from __future__ import annotations

from iscl_monai.phantom.anthropomorphic import PhantomRecipe, ensure_dataset, make_dataset
from iscl_monai.phantom.physics import PhysicsRecipe, make_physics

__all__ = ["PhantomRecipe", "PhysicsRecipe", "ensure_dataset", "make_dataset", "make_physics"]
