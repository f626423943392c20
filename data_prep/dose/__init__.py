"""Low dose, simulated: noise inserted into real scans, or made-up objects scanned directly."""

from data_prep.dose.noise import OUTSIDE_HU, acquire, insert_noise, noise_source, scan_noise_hu, scanner_for

__all__ = ["OUTSIDE_HU", "acquire", "insert_noise", "noise_source", "scan_noise_hu", "scanner_for"]
