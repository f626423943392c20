"""Many denoisers on one set of scans: trained alike, measured alike, told in one table.

Learned methods are trained by the bundle itself, in a process of their own, so that what is compared is what a user
gets. What has been trained, scored or timed stays, and is not done again.
"""
