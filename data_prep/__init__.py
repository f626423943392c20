"""Making training data: simulated low dose, phantoms and datalists.

Run as ``python -m data_prep VERB``. This package may import :mod:`iscl_monai`, never the reverse.
"""
