"""Image quality in Hounsfield units: :mod:`fidelity` to a reference, and :mod:`noise` without one.

Mathematics only: numbers in, numbers out, no files. Import from the modules by name.
"""
