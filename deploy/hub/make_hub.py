"""Build the folder that MONAI's Model Zoo, MONAI Label, MONAI Deploy and Hugging Face take.

They look for ``configs/inference.json`` and ``models/model.pt``, and put their own loader, network and writer around
the config. So in this folder ``inference.json`` is the bundle's ``inference_volume.json``, the bundle's
``inference.json`` is ``inference_dicom.json``, and ``model.pt`` is the released ensemble.

    python deploy/hub/make_hub.py OUT
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
from pathlib import Path

from iscl_monai.durable import check_free, whole_folder
from iscl_monai.errors import ConfigRefusal, Refusal
from iscl_monai.released import ENSEMBLE, weights_in

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "iscl"
NAME = "iscl_ct_denoising"
LARGEST_FILE = 25 * 2**20
"""Of the Model Zoo, for files within its repository; larger ones are named in large_files.yml."""

CARD = """---
license: apache-2.0
library_name: monai
tags:
- monai
- medical
- ct
- denoising
pipeline_tag: image-to-image
---

"""
"""The head of a model card, https://huggingface.co/docs/hub/model-cards."""


def make_hub(destination: Path, *, weights_url: str | None = None, bundle: Path = BUNDLE) -> Path:
    """Make the folder; it appears only when it is whole.

    Args:
        destination: a free name.
        weights_url: where ``model.pt`` has been uploaded to; then it is named in ``large_files.yml`` and left out.
        bundle: with released weights.

    Raises:
        Refusal: a name that is taken, weights that are not those that were released, or no address.
    """
    check_free(destination)
    if weights_url is not None and not weights_url.startswith("https://"):
        raise ConfigRefusal(
            f"--weights-url {weights_url}", allowed="an https:// address", cure="give that of the uploaded model.pt"
        )
    weights = weights_in(bundle, ENSEMBLE).path
    with whole_folder(destination) as folder:
        for part in ("configs", "docs"):
            shutil.copytree(bundle / part, folder / part)
        shutil.copyfile(bundle / "LICENSE", folder / "LICENSE")
        shutil.copyfile(bundle / "docs" / "data_license.txt", folder / "docs" / "license.txt")
        (folder / "configs" / "inference.json").rename(folder / "configs" / "inference_dicom.json")
        (folder / "configs" / "inference_volume.json").rename(folder / "configs" / "inference.json")
        _write_metadata(folder / "configs" / "metadata.json")
        (folder / "README.md").write_text(
            CARD + (bundle / "docs" / "README.md").read_text(encoding="utf-8"), encoding="utf-8"
        )
        (folder / "models").mkdir()
        shutil.copyfile(bundle / "models" / "released.json", folder / "models" / "training.json")
        if weights_url is None:
            shutil.copyfile(weights, folder / "models" / "model.pt")
        else:
            (folder / "large_files.yml").write_text(_large_files(weights, weights_url), encoding="utf-8")
        _check_sizes(folder)
    return destination


def _write_metadata(path: Path) -> None:
    """The bundle's, without the released weights, whose files have other names here."""
    metadata = json.loads(path.read_text(encoding="utf-8"))
    del metadata["released_weights"]
    path.write_text(json.dumps(metadata, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def _large_files(weights: Path, url: str) -> str:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    lines = ["large_files:", "  - path: models/model.pt", f"    url: {url}"]
    return "\n".join([*lines, f"    hash_val: {digest}", "    hash_type: sha256", ""])


def _check_sizes(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size > LARGEST_FILE:
            raise ConfigRefusal(
                f"{path.relative_to(folder)} of {path.stat().st_size} bytes",
                allowed=f"{LARGEST_FILE} bytes",
                cure="upload it and give --weights-url",
            )


def main(words: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path, help=f"folder to make, e.g. build/{NAME}")
    parser.add_argument("--weights-url", help="where models/model.pt has been uploaded to; writes large_files.yml")
    options = parser.parse_args(words)
    try:
        print(make_hub(options.out, weights_url=options.weights_url))
    except Refusal as refusal:
        print(refusal, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
