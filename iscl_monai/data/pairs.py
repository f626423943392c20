"""Pairs of noisy and clean scans: references of the twin, slices of validation and test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from iscl_monai.data.datalist import Datalist
from iscl_monai.data.patches import plain_tensor
from iscl_monai.data.scan import PoolScan, ReferenceScan, ScanPair
from iscl_monai.domain import CT, Domain
from iscl_monai.errors import ConfigRefusal, DatalistRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.transforms import preprocessing


def references(scans: Sequence[PoolScan]) -> list[ReferenceScan]:
    """The clean references of noisy scans, for the supervised twin.

    Raises:
        ConfigRefusal: naming the first scan without one.
    """
    for scan in scans:
        if scan.reference is None:
            raise ConfigRefusal(
                f"{scan.image} has no reference",
                allowed="noisy scans with 'reference' in the datalist",
                cure="only a simulated dose has one; train without the supervised twin",
            )
    return [
        ReferenceScan(
            **{
                **vars(scan),
                "image": scan.reference,
                "series_uid": scan.reference_series_uid,
                "reference": None,
                "reference_series_uid": None,
            },
            noisy=scan.image,
            noisy_series_uid=scan.series_uid,
        )
        for scan in scans
        if scan.reference
    ]


class SliceDataset(Dataset[dict[str, Any]]):
    """Evenly spaced slices to validate on: of pairs, or of noisy scans when there are no pairs.

    Args:
        pairs: may be empty.
        noisy: the noisy pool, used when there are no pairs.
        hu_window: the window of the preprocessing.
        slices_per_scan: how many of each scan.
        trust_hu: see :func:`iscl_monai.dicom.monai_io.load_ct`.
        domain: of the images.

    Items: ``noisy`` and, of pairs, ``clean`` in [-1, 1]; ``noisy_hu``, ``clean_hu``; ``body``, True inside
    the skin; all (1, rows, columns). If of each pair either the truth or the dose is known, so that errors to the truth
    can be compared, also ``truth_hu`` or ``dose``.
    """

    def __init__(
        self,
        pairs: Sequence[ScanPair],
        *,
        noisy: Sequence[PoolScan],
        hu_window: HUWindow,
        slices_per_scan: int = 4,
        trust_hu: bool = False,
        domain: Domain = CT,
    ) -> None:
        self.slices: list[dict[str, Any]] = []
        if domain == CT:
            pairs = [_with_dose(pair) for pair in pairs]
        known = all(pair.truth is not None or pair.dose is not None for pair in pairs)
        items = [_item(pair, known=known) for pair in pairs]
        for item in items or [{**scan.item(), "noisy": str(scan.image)} for scan in noisy[:4]]:
            keys = [name for name in ("noisy", "clean", "truth") if name in item]
            volume = preprocessing(keys, hu_window, trust_hu=trust_hu, domain=domain)(item)
            images = {key: volume[key] for name in keys for key in (name, f"{name}_hu")}
            check_same_shape(item, images)
            images.pop("truth", None)
            total = volume["noisy"].shape[-1]
            count = min(slices_per_scan, total)
            dose = {"dose": item["dose"]} if "dose" in item else {}
            for index in [round((i + 0.5) * total / count - 0.5) for i in range(count)]:
                self.slices.append(_one_slice(images, index, domain) | dose)

    def __len__(self) -> int:
        """All slices of all scans."""
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One slice; see the class."""
        return self.slices[index]


def _with_dose(pair: ScanPair) -> ScanPair:
    """A pair whose dose nobody wrote into the datalist, with that which our own derivation says."""
    if pair.truth is not None or pair.dose is not None:
        return pair
    from iscl_monai.dicom.inserted import inserted_dose_of  # patches of arrays need no pydicom

    return replace(pair, dose=inserted_dose_of(pair.noisy, pair.noisy_series_uid))


def _item(pair: ScanPair, *, known: bool) -> dict[str, Any]:
    """A pair as the transforms want it, with what tells its errors to the truth where that is of use."""
    item = pair.item()
    if known and pair.truth is not None:
        item["truth"] = str(pair.truth)
        if pair.truth_series_uid is not None:
            item["truth_series_uid"] = pair.truth_series_uid
    elif known and pair.dose is not None:
        item["dose"] = float(pair.dose)
    return item


def _one_slice(images: Mapping[str, Tensor], index: int, domain: Domain) -> dict[str, Any]:
    cut = {key: plain_tensor(image)[..., index].clone() for key, image in images.items()}
    body = domain.foreground(cut.get("clean_hu", cut["noisy_hu"]).numpy())
    return {**cut, "body": torch.from_numpy(body)}


def pairs_of(datalist: Datalist, section: str) -> list[dict[str, Any]]:
    """The items of a section of pairs, for a MONAI Dataset.

    Args:
        datalist: the scans.
        section: ``validation`` or ``test``.

    Raises:
        ConfigRefusal: if there is no such section, or nothing in it.
    """
    pairs = {"validation": datalist.validation, "test": datalist.test}
    if section not in pairs:
        raise ConfigRefusal(f"--section {section}", allowed=" or ".join(pairs), cure="choose one of the two")
    if not pairs[section]:
        other = "test" if section == "validation" else "validation"
        known = f", or take the {len(pairs[other])} of --section {other}" if pairs[other] else ""
        raise ConfigRefusal(
            f"the datalist has no {section!r} pairs",
            allowed="pairs {noisy, clean, patient}",
            cure=f"add {section!r} pairs to the datalist (real scans get them from a simulated dose){known}",
        )
    return [pair.item() for pair in pairs[section]]


def check_same_shape(item: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
    """Refuse a pair whose two scans are not voxel by voxel the same.

    Raises:
        DatalistRefusal: naming both files and shapes.
    """
    for other in ("clean", "truth"):
        if other not in images or images[other].shape == images["noisy"].shape:
            continue
        noisy, wrong = (f"{item[key]} is {tuple(images[key].shape[1:])}" for key in ("noisy", other))
        raise DatalistRefusal(
            f"{noisy}, {wrong}",
            allowed="pairs of the same rows, columns and slices",
            cure="pair a scan with its own reference, with the same z_range_mm",
        )
