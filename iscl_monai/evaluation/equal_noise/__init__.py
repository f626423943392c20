"""Methods compared at equal noise: each as a curve over its strength, from none of its change to all of it.

What a method adds to a slice may be added in part: ``out(s) = x + s * change``. So one pass serves all strengths, and
every method that takes away more noise than another can be asked what it does at the other's.
"""
