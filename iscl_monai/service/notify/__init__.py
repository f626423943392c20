"""Tells people, by webhook and by mail, of what needs them: once for each cause, and once more when it is over."""
