"""Looking through a hospital's archive: which series are there, and which of them are fit for training."""
