"""Which scans feed which side, and the endless row of unpaired patches drawn from them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch.distributed
from monai.data import CacheDataset, MetaTensor
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from iscl_monai.errors import ConfigRefusal, DatalistRefusal, LeakRefusal, MemoryRefusal
from iscl_monai.hu import HUWindow
from iscl_monai.quality.fidelity import body_mask
from iscl_monai.quality.noise import noise_sigma_hu
from iscl_monai.transforms import preprocessing

MINIMUM_GAP_MM = 15.0
MEMORY_SHARE = 0.8
BYTES_PER_VOXEL = 2.1  # int16 HU and the coarse body map; float32 only for scans with fractional HU
RANGE = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class PoolScan:
    """A scan of one of the two unpaired pools.

    Args:
        image: DICOM folder or file, or NIfTI, HU; absolute once loaded.
        patient: who it is; the same string for the same person everywhere in the datalist.
        dose: share of a full dose; 1 for the clean pool. For the balance, not for training.
        kernel: reconstruction kernel. For the balance, not for training.
        z_range_mm: only slices at these positions along the slice normal.
        series_uid: which DICOM series, when the folder holds several.
        reference: the clean image of this very scan, when there is one (the supervised twin trains on it).
    """

    image: Path
    patient: str
    dose: float | None = None
    kernel: str | None = None
    z_range_mm: RANGE | None = None
    series_uid: str | None = None
    reference: Path | None = None

    def item(self) -> dict[str, Any]:
        """The scan as the transforms want it."""
        return _present(
            image=str(self.image),
            image_path=str(self.image),
            z_range_mm=self.z_range_mm,
            series_uid=self.series_uid,
        )


@dataclass(frozen=True, kw_only=True)
class ScanPair:
    """A noisy scan and its clean reference, voxel by voxel the same anatomy.

    Args:
        noisy: as :class:`PoolScan` ``image``.
        clean: likewise.
        patient: who it is.
        z_range_mm: only slices at these positions, of both.
        noisy_series_uid: which DICOM series, when the folder of ``noisy`` holds several.
        clean_series_uid: likewise for ``clean``.
    """

    noisy: Path
    clean: Path
    patient: str
    z_range_mm: RANGE | None = None
    noisy_series_uid: str | None = None
    clean_series_uid: str | None = None

    def item(self) -> dict[str, Any]:
        """The pair as the transforms want it."""
        return _present(
            noisy=str(self.noisy),
            clean=str(self.clean),
            patient=self.patient,
            z_range_mm=self.z_range_mm,
            noisy_series_uid=self.noisy_series_uid,
            clean_series_uid=self.clean_series_uid,
        )


def _present(**entries: Any) -> dict[str, Any]:
    """Entries that are there: MONAI cannot put None into a batch."""
    return {key: value for key, value in entries.items() if value is not None}


Entry = PoolScan | ScanPair
SECTIONS: dict[str, type[PoolScan] | type[ScanPair]] = {
    "noisy": PoolScan,
    "clean": PoolScan,
    "validation": ScanPair,
    "test": ScanPair,
}


@dataclass(frozen=True, kw_only=True)
class Datalist:
    """The scans of a training: two unpaired pools, and pairs to validate and test on (possibly none).

    In the file, ``{"noisy": [...], "clean": [...], "validation": [...], "test": [...]}``, paths relative to
    it.
    """

    noisy: tuple[PoolScan, ...]
    clean: tuple[PoolScan, ...]
    validation: tuple[ScanPair, ...] = ()
    test: tuple[ScanPair, ...] = ()

    @classmethod
    def load(cls, path: Path | str) -> Datalist:
        """Read and check a datalist, leaks included.

        Args:
            path: the JSON file, or the folder with a ``datalist.json`` in it.

        Raises:
            DatalistRefusal: naming entry, key, value and what is allowed.
            LeakRefusal: if anatomy stands on two sides.
        """
        path = Path(path)
        path = path / "datalist.json" if path.is_dir() else path
        sections = {name: _entries(path, name, rows) for name, rows in _read(path).items() if name in SECTIONS}
        for needed in ("noisy", "clean"):
            if not sections.get(needed):
                raise DatalistRefusal(
                    f"{path}: no scan in {needed!r}",
                    allowed="at least one scan in each of 'noisy' and 'clean'",
                    cure="add scans of other patients than those of the other pool",
                )
        datalist = cls(**{name: tuple(rows) for name, rows in sections.items()})
        check_leaks(datalist)
        return datalist

    def digest(self) -> str:
        """Tells one datalist from another: over scans, patients and z-ranges of the two pools."""
        pools = repr([(scan.image.name, scan.patient, scan.z_range_mm) for scan in (*self.noisy, *self.clean)])
        return hashlib.sha256(pools.encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatalistRefusal(
            f"{path} does not exist",
            allowed="a datalist.json (docs/datalist.md)",
            cure="give --dataset_dir a folder with a datalist.json, or leave it out to train on the phantom",
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatalistRefusal(f"{path}: {error}", allowed="JSON", cure="mend the file at that place") from None
    if not isinstance(content, dict):
        raise DatalistRefusal(f"{path} holds a {type(content).__name__}", allowed="an object", cure="see docs")
    known = [*SECTIONS, "description"]
    for key in content:
        if key not in known:
            raise DatalistRefusal(f"{path}: section {key!r}", allowed=", ".join(known), cure=_nearest(key, known))
    return content


def _nearest(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "leave it out"


def _entries(path: Path, section: str, rows: Any) -> list[Any]:
    if not isinstance(rows, list):
        raise DatalistRefusal(f"{path}: {section} is {rows!r}", allowed="a list of scans", cure="put it in brackets")
    return [_entry(path, f"{section}[{index}]", SECTIONS[section], row) for index, row in enumerate(rows)]


def _entry(path: Path, place: str, kind: type[PoolScan] | type[ScanPair], row: Any) -> Entry:
    known = [field.name for field in fields(kind)]
    needed = known[: 2 if kind is PoolScan else 3]
    row = row if isinstance(row, Mapping) else {}
    for key in row:
        if key not in known:
            raise DatalistRefusal(f"{path}: {place} has {key!r}", allowed=", ".join(known), cure=_nearest(key, known))
    for key in needed:
        if not isinstance(row.get(key), str) or not row[key]:
            raise DatalistRefusal(
                f"{path}: {place} has {key}={row.get(key)!r}",
                allowed="a non-empty string",
                cure=f"give its {key}",
            )
    return kind(**{key: _value(path, place, key, value) for key, value in row.items() if value is not None})


def _value(path: Path, place: str, key: str, value: Any) -> Any:
    if key in {"image", "reference", "noisy", "clean"}:
        image = (path.parent / value).resolve()
        if not image.exists():
            raise DatalistRefusal(
                f"{path}: {place} {key}={value!r} does not exist",
                allowed="a path that exists, relative to the datalist",
                cure=f"look for it at {image}",
            )
        return image
    if key == "z_range_mm":
        numbers = isinstance(value, list) and all(isinstance(v, (int, float)) for v in value)
        if not numbers or len(value) != 2 or not value[0] <= value[1]:
            raise DatalistRefusal(
                f"{path}: {place} z_range_mm={value!r}",
                allowed="[lowest, highest] in mm",
                cure="order the two",
            )
        return (float(value[0]), float(value[1]))
    return value


def check_leaks(datalist: Datalist) -> None:
    """Refuse a datalist that shows the same anatomy on two sides.

    Noisy pool, clean pool and validation may share a patient only in z-ranges at least 15 mm apart; test
    shares no patient with anything.

    Raises:
        LeakRefusal: naming the patient and both places.
    """
    sides: dict[str, Sequence[Entry]] = {name: getattr(datalist, name) for name in SECTIONS}
    names = list(sides)
    for index, one in enumerate(names):
        for other in names[index + 1 :]:
            for a in sides[one]:
                for b in sides[other]:
                    _check_apart(one, a, other, b)


def _check_apart(one: str, a: Entry, other: str, b: Entry) -> None:
    if a.patient != b.patient:
        return
    if other == "test":
        raise LeakRefusal(
            f"test patient {a.patient!r} is also in {one!r}",
            allowed="test patients that nothing else has seen",
            cure=f"take {a.patient!r} out of one of the two",
        )
    if a.z_range_mm is None or b.z_range_mm is None or _gap_mm(a.z_range_mm, b.z_range_mm) < MINIMUM_GAP_MM:
        raise LeakRefusal(
            f"patient {a.patient!r} is in {one!r} (z {_said(a)}) and in {other!r} (z {_said(b)})",
            allowed=f"other patients, or z-ranges at least {MINIMUM_GAP_MM:g} mm apart",
            cure="move the patient to one side, or give both entries a z_range_mm",
        )


def _gap_mm(one: RANGE, other: RANGE) -> float:
    return max(one[0], other[0]) - min(one[1], other[1])


def _said(entry: Entry) -> str:
    return "everything" if entry.z_range_mm is None else "{:g} to {:g} mm".format(*entry.z_range_mm)


class UnpairedPatches(Dataset[dict[str, Tensor]]):
    """The n-th pair of unpaired patches is a pure function of seed and n, whoever computes it and when.

    So a resumed run continues with the patch it would have drawn, with any number of workers and of GPUs.

    Args:
        noisy: cached volumes of the noisy pool.
        clean: cached volumes of the clean pool.
        augmentation: draws and turns a patch; everything random in it is seeded here.
        windowing: HU to network range.
        seed: of the whole row.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        clean: Sequence[Mapping[str, Any]],
        *,
        augmentation: Compose,
        windowing: Any,
        seed: int = 0,
    ) -> None:
        self.pools = {"noisy": noisy, "clean": clean}
        self.chances = {name: _by_slices(pool) for name, pool in self.pools.items() if pool}
        self.augmentation = augmentation
        self.windowing = windowing
        self.seed = seed

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The pair ``{"noisy", "clean"}``, each (1, rows, columns) in [-1, 1]."""
        return {name: self._patch(name, index) for name in self.pools}

    def _patch(self, name: str, index: int) -> Tensor:
        rng = np.random.default_rng((self.seed, index, list(self.pools).index(name)))
        pool = self.pools[name]
        scan = pool[int(rng.choice(len(pool), p=self.chances[name]))]
        self.augmentation.set_random_state(seed=int(rng.integers(2**32)))
        patch = self.windowing(self.augmentation(scan))["image"]
        return _plain(patch).contiguous()


def _plain(image: Tensor) -> Tensor:
    """Without MONAI's metadata, which would slow down every operation of a network fed with it."""
    return image.as_tensor() if isinstance(image, MetaTensor) else image


def _by_slices(pool: Sequence[Mapping[str, Any]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    slices = np.array([scan["image"].shape[-1] for scan in pool], dtype=np.float64)
    return np.asarray(slices / slices.sum())


class RunSampler(Sampler[int]):
    """The indices of a whole run in one row, so that the place in it follows from the iteration number alone.

    With several processes (torch.distributed) every rank takes its part of each batch.

    Args:
        samples: per process over the whole run, i.e. epochs times iterations times batch size.
        done: samples that an earlier part of the run has used up; set by the checkpoint on resume.
    """

    def __init__(self, samples: int, *, done: int = 0) -> None:
        self.samples = samples
        self.done = done

    def __len__(self) -> int:
        """Samples that are left."""
        return self.samples - self.done

    def __iter__(self) -> Iterator[int]:
        """Global indices of this process's samples."""
        spread = torch.distributed.is_available() and torch.distributed.is_initialized()
        ranks = torch.distributed.get_world_size() if spread else 1
        rank = torch.distributed.get_rank() if spread else 0
        return (index * ranks + rank for index in range(self.done, self.samples))


def cached(scans: Sequence[PoolScan], *, loading: Compose, num_workers: int = 2, progress: bool = True) -> CacheDataset:
    """The volumes of a pool, read once and held in memory; the size is said before it is taken.

    Raises:
        MemoryRefusal: if it would take more than 80 % of the memory that is free.
        Refusal: whatever reading refuses.
    """
    items = [scan.item() for scan in scans]
    check_memory(items)
    return CacheDataset(items, loading, num_workers=num_workers, copy_cache=False, progress=progress)


def check_memory(items: Sequence[Mapping[str, Any]]) -> None:
    """Say how much memory the scans will take, and refuse what does not fit."""
    from iscl_monai.dicom.monai_io import estimate_shape

    shapes = [
        estimate_shape(item["image"], series_uid=item.get("series_uid"), z_range_mm=item.get("z_range_mm"))
        for item in items
    ]
    needed = int(BYTES_PER_VOXEL * sum(int(np.prod(shape)) for shape in shapes))
    free = psutil.virtual_memory().available
    slices = sum(shape[-1] for shape in shapes)
    print(f"caching {len(items)} scans, {slices} slices: {needed / 2**30:.2f} GiB of {free / 2**30:.1f} GiB free")
    if needed > MEMORY_SHARE * free:
        raise MemoryRefusal(
            f"{len(items)} scans need {needed / 2**30:.1f} GiB",
            allowed=f"{MEMORY_SHARE:.0%} of the {free / 2**30:.1f} GiB that are free",
            cure="train on fewer scans, give z_range_mm, or use a machine with more memory",
        )


def pool_noise_hu(pool: Sequence[Mapping[str, Any]]) -> float:
    """Noise of a cached pool in HU: the median over its scans of the noise in soft tissue."""
    scans = (torch.as_tensor(scan["image"])[0].permute(2, 0, 1) for scan in pool)
    return float(np.nanmedian([noise_sigma_hu(scan) for scan in scans]))


class PairedPatches(UnpairedPatches):
    """Patches of a noisy scan and of its own reference at the same place, for the supervised twin.

    Args:
        noisy: cached volumes of the noisy pool.
        reference: their references, in the same order and of the same shapes.
        augmentation: as in :class:`UnpairedPatches`.
        windowing: as in :class:`UnpairedPatches`.
        seed: of the whole row.
    """

    def __init__(
        self,
        noisy: Sequence[Mapping[str, Any]],
        reference: Sequence[Mapping[str, Any]],
        *,
        augmentation: Compose,
        windowing: Any,
        seed: int = 0,
    ) -> None:
        pairs = [
            {**a, "image": torch.cat([_plain(a["image"]), _plain(b["image"])])}
            for a, b in zip(noisy, reference, strict=True)
        ]
        super().__init__(pairs, [], augmentation=augmentation, windowing=windowing, seed=seed)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """The pair ``{"noisy", "clean"}`` of one place, each (1, rows, columns) in [-1, 1]."""
        both = self._patch("noisy", index)
        return {"noisy": both[:1], "clean": both[1:]}


def references(scans: Sequence[PoolScan]) -> list[PoolScan]:
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
    return [replace(scan, image=scan.reference, reference=None, series_uid=None) for scan in scans if scan.reference]


class SliceDataset(Dataset[dict[str, Any]]):
    """Evenly spaced slices to validate on: of pairs, or of noisy scans when there are no pairs.

    Args:
        pairs: may be empty.
        noisy: the noisy pool, used when there are no pairs.
        hu_window: the window of the preprocessing.
        slices_per_scan: how many of each scan.

    Items: ``noisy`` and, of pairs, ``clean`` in [-1, 1]; ``noisy_hu``, ``clean_hu``; ``body``, True inside
    the skin; all (1, rows, columns).
    """

    def __init__(
        self,
        pairs: Sequence[ScanPair],
        *,
        noisy: Sequence[PoolScan],
        hu_window: HUWindow,
        slices_per_scan: int = 4,
    ) -> None:
        self.slices: list[dict[str, Any]] = []
        keys = ("noisy", "clean") if pairs else ("noisy",)
        load = preprocessing(keys, hu_window)
        items = [p.item() for p in pairs] or [{**scan.item(), "noisy": str(scan.image)} for scan in noisy[:4]]
        for item in items:
            volume = load(item)
            images = {key: volume[key] for name in keys for key in (name, f"{name}_hu")}
            check_same_shape(item, images)
            total = volume["noisy"].shape[-1]
            count = min(slices_per_scan, total)
            for index in [round((i + 0.5) * total / count - 0.5) for i in range(count)]:
                self.slices.append(_one_slice(images, index))

    def __len__(self) -> int:
        """All slices of all scans."""
        return len(self.slices)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One slice; see the class."""
        return self.slices[index]


def _one_slice(images: Mapping[str, Tensor], index: int) -> dict[str, Any]:
    cut = {key: _plain(image)[..., index].clone() for key, image in images.items()}
    body = body_mask(cut.get("clean_hu", cut["noisy_hu"])[0])
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
        raise ConfigRefusal(
            f"the datalist has no {section!r} pairs",
            allowed="pairs {noisy, clean, patient}",
            cure=f"add {section!r} pairs to the datalist; real scans get them from a simulated dose",
        )
    return [pair.item() for pair in pairs[section]]


def check_same_shape(item: Mapping[str, Any], images: Mapping[str, Tensor]) -> None:
    """Refuse a pair whose two scans are not voxel by voxel the same.

    Raises:
        DatalistRefusal: naming both files and shapes.
    """
    if "clean" in images and images["clean"].shape != images["noisy"].shape:
        noisy, clean = (f"{item[key]} is {tuple(images[key].shape[1:])}" for key in ("noisy", "clean"))
        raise DatalistRefusal(
            f"{noisy}, {clean}",
            allowed="pairs of the same rows, columns and slices",
            cure="pair a scan with its own reference, with the same z_range_mm",
        )
