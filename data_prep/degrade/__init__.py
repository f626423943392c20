"""Degradations whose truth is known: film and charge on micrographs, Rician noise on MR magnitude."""
