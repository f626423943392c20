"""Where things are: the bundle, the datalist, the images to denoise."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from iscl_monai import bundle
from iscl_monai.configuration.own_place import own_bundle
from iscl_monai.domain import CT, Domain
from iscl_monai.errors import ConfigRefusal
from iscl_monai.released import ENSEMBLE, weights_in


def bundle_root() -> str:
    """The folder of the bundle whose config is being evaluated, wherever that is started.

    Raises:
        ConfigRefusal: MONAI does not know where the config came from, and the working folder is neither the
            repository's root nor inside the bundle.
    """
    return str(own_bundle() or bundle.bundle_here("--bundle_root"))


def released_weights_file(root: str) -> str:
    """The bundle's released weights, which a fine-tuning starts from.

    Raises:
        CheckpointRefusal: it has none, or not those that were released.
    """
    return str(weights_in(root, ENSEMBLE).path)


def dataset(dataset_dir: str | None, root: str, domain: Domain = CT) -> str:
    """Where the datalist is: in the folder given, or in that of the phantom, which is made when absent.

    Raises:
        ConfigRefusal: no folder given, of images that nobody makes up.
    """
    if dataset_dir is not None:
        return dataset_dir
    if not domain.phantom:
        raise ConfigRefusal(
            f"--dataset_dir is not given, and there is no phantom of {domain.title}",
            allowed="a folder with a datalist.json",
            cure="make one, e.g. by python -m data_prep split-stack",
        )
    from iscl_monai.phantom import ensure_dataset  # scipy, pydicom and the virtual scanner: not for other data

    folder = Path(root) / "data" / "phantom"
    several = torch.distributed.is_available() and torch.distributed.is_initialized()
    if several and os.environ.get("LOCAL_RANK", "0") != "0":
        torch.distributed.barrier()  # the first process of this machine makes it; two would tear it apart
    made = str(ensure_dataset(folder))
    if several and os.environ.get("LOCAL_RANK", "0") == "0":
        torch.distributed.barrier()
    return made


def images(path: str | Path) -> list[str]:
    """The images to denoise: a volume file (NIfTI ...), a folder of such files, or one of one DICOM series.

    Raises:
        ConfigRefusal: if there is nothing at the path.
    """
    from iscl_monai.dicom.images import is_image_file  # needs pydicom, which training does not

    path = Path(path)
    if not path.exists():
        raise ConfigRefusal(f"--input {path} does not exist", allowed="a file or folder", cure="check the spelling")
    volumes = sorted(str(file) for file in path.iterdir() if is_image_file(file)) if path.is_dir() else []
    return volumes or [str(path)]


def image_item(path: str, series_uid: str | None) -> dict[str, str]:
    """One image for the transforms, and which DICOM series of its folder if that has been said."""
    return {"image": path} if series_uid is None else {"image": path, "series_uid": series_uid}
