"""MR magnitude images, read or refused: NIfTI, and classic MR Image Storage.

A room of its own, one floor above ``dicom``: reading MR needs DICOM's headers, places and pixels as CT does, but none
of its rules of Hounsfield units, air and axial slices. It must not stand in ``dicom`` either, where whoever asks for CT
would come across it: what an MR scan is, is said by the user, never guessed. No torch, no MONAI; reading only.

>>> scan = read_magnitude("t1w.nii.gz")  # doctest: +SKIP
>>> scan.values / scan.window  # 1 is the 99.5th percentile of this scan  # doctest: +SKIP
"""

from iscl_monai.magnitude.scan import PERCENTILE, MagnitudeScan, read_magnitude

__all__ = ["PERCENTILE", "MagnitudeScan", "read_magnitude"]
