"""Where the bundle lies: the folder of configs, documents and weights."""

from __future__ import annotations

import shutil
from pathlib import Path

from iscl_monai.durable import check_free, whole_folder
from iscl_monai.errors import ConfigRefusal

METADATA = Path("configs") / "metadata.json"
IN_REPOSITORY = Path("bundles") / "iscl"
PARTS = ("LICENSE", "configs", "docs", "models")


def bundle_here(option: str) -> Path:
    """The bundle's folder, as seen from the repository's root or from inside the bundle.

    Args:
        option: of the command that asks, which names another place.

    Raises:
        ConfigRefusal: from anywhere else.
    """
    for place in (Path("."), IN_REPOSITORY):
        if (place / METADATA).is_file():
            return place
    raise ConfigRefusal(
        f"{Path.cwd()} holds neither bundles/iscl nor configs/metadata.json",
        allowed="the repository's root or the bundle's folder",
        cure=f"change there, or give {option}",
    )


def bundle_to_read(option: str) -> Path:
    """The bundle that is meant when none is named: the one here, or else the one that was installed with the package.

    Args:
        option: see :func:`bundle_here`.

    Raises:
        ConfigRefusal: if there is none.
    """
    try:
        return bundle_here(option)
    except ConfigRefusal:
        installed = installed_bundle()
        if installed is None:
            raise
        return installed


def installed_bundle() -> Path | None:
    """The bundle inside of the installed package, or beside it in the repository; None: in neither."""
    package = Path(__file__).resolve().parent
    for place in (package / IN_REPOSITORY, package.parent / IN_REPOSITORY):
        if (place / METADATA).is_file():
            return place
    return None


def metadata_of(bundle: Path | str) -> Path:
    """Where the version of a bundle's weights stands.

    The folder of a training (``--output_dir runs/a --ckpt_dir runs/a/models``) holds weights and no configs: there it
    is that of the bundle whose configs trained it, the installed one.

    Args:
        bundle: folder of a bundle, or of a training.

    Returns:
        A file, which may be missing.
    """
    own = Path(bundle) / METADATA
    installed = installed_bundle()
    if own.is_file() or installed is None or not is_trained(bundle):
        return own
    return installed / METADATA


def is_trained(folder: Path | str) -> bool:
    """Whether a training left its weights there."""
    return (Path(folder) / "models" / "model.pt").is_file()


def copy_bundle(destination: Path) -> Path:
    """A bundle of one's own to train in: configs, documents, licence, and weights where there are any.

    Args:
        destination: folder to make; appears only when complete.

    Raises:
        ConfigRefusal: if this installation has no bundle.
        OutputRefusal: if something is there already.
    """
    source = bundle_to_read("the bundle's folder to change to")
    check_free(destination)
    with whole_folder(destination) as folder:
        for part in PARTS:
            if (source / part).is_dir():
                shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns(".gitkeep"))
            elif (source / part).is_file():
                shutil.copyfile(source / part, folder / part)
        (folder / "models").mkdir(exist_ok=True)
    return destination
