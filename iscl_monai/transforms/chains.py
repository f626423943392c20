"""Which transforms follow each other: from files to HU, patches and the network's range."""

from __future__ import annotations

from monai.config import KeysCollection
from monai.transforms import Compose, RandFlipd, RandRotate90d
from monai.transforms.transform import Transform
from monai.utils.misc import ensure_tuple

from iscl_monai.domain import CT, Domain
from iscl_monai.hu import HUWindow
from iscl_monai.transforms.lesions import STRUCTURES, RandLesionsd
from iscl_monai.transforms.patches import RandBodyPatchd
from iscl_monai.transforms.same_place import SamePlaced
from iscl_monai.transforms.volumes import BodyFractiond, CompactHUd, HUWindowd


def loading(keys: KeysCollection, *, geometry: str = "slices", trust_hu: bool = False, domain: Domain = CT) -> Compose:
    """Files to cached HU volumes with their body maps: everything of training that is not random.

    Args:
        keys: of the paths.
        geometry: of CT, see :class:`~iscl_monai.dicom.monai_io.LoadCTd`.
        trust_hu: likewise.
        domain: of the images; of another than CT the unit is its own.
    """
    keys = ensure_tuple(keys)
    load = domain.loader(keys, geometry="volume" if geometry == "volume" else "slices", trust_hu=trust_hu)
    return Compose([load, CompactHUd(keys), BodyFractiond(keys, domain.foreground)])


def augmentation(
    keys: KeysCollection,
    *,
    patch_size: int = 64,
    least_body: float = 0.5,
    coarsest: float = 1.0,
    lesions: int = 0,
    structures: int = 0,
    domain: Domain = CT,
) -> Compose:
    """A random body patch in one of the orientations that the domain allows, of CT the eight of the square.

    Args:
        keys: images (1, row, column, slice) with ``<key>_body`` beside them.
        patch_size: side in pixels.
        least_body: see :class:`RandBodyPatchd`.
        coarsest: likewise.
        lesions: at most so many are put into a patch, see :class:`RandLesionsd`.
        structures: at most so many with sharp edges and strong contrasts are put into a patch.
        domain: of the images.
    """
    steps: list[Transform] = [
        RandBodyPatchd(keys, patch_size=patch_size, least_body=least_body, coarsest=coarsest),
        RandFlipd(keys, prob=0.5, spatial_axis=0),
    ]
    if domain.quarter_turns:
        steps.append(RandRotate90d(keys, prob=0.75, max_k=3, spatial_axes=(0, 1)))
    else:
        steps.append(RandFlipd(keys, prob=0.5, spatial_axis=1))
    if structures:
        steps.append(RandLesionsd(keys, most=structures, **STRUCTURES))
    if lesions:
        steps.append(RandLesionsd(keys, most=lesions))
    return Compose(steps)


def preprocessing(
    keys: KeysCollection,
    hu_window: HUWindow,
    *,
    geometry: str = "slices",
    trust_hu: bool = False,
    domain: Domain = CT,
) -> Compose:
    """Files to network range, HU kept beside it: the chain of validation and of the bundle's ``evaluate.json``.

    Args:
        keys: of the paths; of several, all are brought to the axes of the first, see :class:`SamePlaced`.
        hu_window: what maps to [-1, 1].
        geometry: of CT, see :class:`~iscl_monai.dicom.monai_io.LoadCTd`.
        trust_hu: likewise.
        domain: of the images.
    """
    load = domain.loader(keys, geometry="volume" if geometry == "volume" else "slices", trust_hu=trust_hu)
    return Compose([load, SamePlaced(keys), HUWindowd(keys, hu_window)])
