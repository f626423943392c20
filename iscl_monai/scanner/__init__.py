"""A virtual CT scanner: fan-beam geometry, projector, reconstruction kernel, exposure, and its fit to a real scan."""
