"""Methods of anybody's beside ours: a function of HU, by entry point or from a file, or a folder of denoised scans.

Nothing is taken on trust: shapes, finite Hounsfield units, orientation, places and whose scan it is are checked, and
what was measured is kept under a digest of the code or the voxels, so that it is measured anew when these change.
"""

from iscl_monai.evaluation.submission.function import SubmittedFunction, SubmittedVolumeFunction
from iscl_monai.evaluation.submission.images import NOT_CHECKED, ReadScans, SubmittedImages, check_not_reference
from iscl_monai.evaluation.submission.matching import DenoisedFolder
from iscl_monai.evaluation.submission.source import (
    GROUP,
    is_function_source,
    load_submitted,
    named_denoiser,
    submitted_names,
)

__all__ = [
    "GROUP",
    "NOT_CHECKED",
    "DenoisedFolder",
    "ReadScans",
    "SubmittedFunction",
    "SubmittedImages",
    "SubmittedVolumeFunction",
    "check_not_reference",
    "is_function_source",
    "load_submitted",
    "named_denoiser",
    "submitted_names",
]
