"""The transform chains of training and of its validation: from files to HU, patches and the network's range.

Deployed denoising (:mod:`iscl_monai.inference`) goes slice by slice and uses no chain; the window is the same
:class:`iscl_monai.hu.HUWindow`.

Images are channel-first tensors (1, row, column, slice) from files and (1, row, column) as training patches.
"""

from iscl_monai.transforms.chains import augmentation, loading, preprocessing
from iscl_monai.transforms.dead_leaves import RandDeadLeavesd
from iscl_monai.transforms.lesions import RandLesionsd
from iscl_monai.transforms.patches import RandBodyPatchd
from iscl_monai.transforms.same_place import SamePlaced, on_axes_of
from iscl_monai.transforms.volumes import BodyFractiond, CompactHUd, HUWindowd

__all__ = [
    "BodyFractiond",
    "CompactHUd",
    "HUWindowd",
    "RandBodyPatchd",
    "RandDeadLeavesd",
    "RandLesionsd",
    "SamePlaced",
    "augmentation",
    "loading",
    "on_axes_of",
    "preprocessing",
]
