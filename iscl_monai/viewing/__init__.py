"""Doors for programs that show images; none of them is needed to denoise."""
