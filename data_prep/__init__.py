"""From a hospital's archive to a training set: commands, archive, dose files, splits.

Run as ``python -m data_prep VERB``. This package may import :mod:`iscl_monai`, never the reverse.
"""
