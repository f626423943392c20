"""Evaluation: what a denoiser does to images, told with pictures and numbers."""
