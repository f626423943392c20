"""The napari plugin: what its manifest names exists, and layers lie as scans do; with napari where it is installed."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest
import yaml
from dicom.synthetic import Series

from iscl_monai.dicom.series import read_series
from iscl_monai.errors import ImageRefusal
from iscl_monai.inference import Denoiser, denoise_volume
from iscl_monai.viewing.napari import denoise_layer, napari_get_reader, read_layers

ROOT = Path(__file__).resolve().parents[2]
MANIFEST = ROOT / "iscl_monai" / "viewing" / "napari.yaml"
BUNDLE = ROOT / "bundles" / "iscl"


def test_the_manifest_names_what_exists() -> None:
    manifest = yaml.safe_load(MANIFEST.read_text())
    for command in manifest["contributions"]["commands"]:
        module, name = command["python_name"].split(":")
        assert callable(getattr(importlib.import_module(module), name))
    identifiers = {command["id"] for command in manifest["contributions"]["commands"]}
    for kind in ("readers", "widgets"):
        assert {one["command"] for one in manifest["contributions"][kind]} <= identifiers


def test_a_series_becomes_a_layer_in_hu(tmp_path: Path) -> None:
    Series(rows=40, columns=36).write(tmp_path / "scan")
    reader = napari_get_reader(str(tmp_path / "scan"))
    assert reader is not None
    ((hu, shown, kind),) = reader(str(tmp_path / "scan"))
    series = read_series(tmp_path / "scan", geometry="slices")
    assert kind == "image"
    assert np.array_equal(hu, series.hu)
    assert shown["scale"][1:] == pytest.approx([float(mm) for mm in pydicom.dcmread(series.files[0]).PixelSpacing])
    assert napari_get_reader([str(tmp_path / "scan")]) is None
    assert napari_get_reader(str(tmp_path / "picture.png")) is None


def test_a_volume_is_turned_to_slices_and_refused_if_it_is_no_ct(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    values = np.full((40, 32, 3), -1000, np.int16) + chance.normal(0, 15, (40, 32, 3)).astype(np.int16)
    values[8:-8, 8:-8] = chance.normal(40, 30, (24, 16, 3))
    nibabel.Nifti1Image(values, np.diag([0.5, 0.75, 2.0, 1])).to_filename(tmp_path / "scan.nii.gz")
    ((hu, shown, _),) = read_layers(str(tmp_path / "scan.nii.gz"))
    assert np.array_equal(hu, values.transpose(2, 1, 0))
    assert shown["scale"] == [2.0, 0.75, 0.5]
    nibabel.Nifti1Image(values * 0 + 7, np.eye(4)).to_filename(tmp_path / "flat.nii.gz")
    with pytest.raises(ImageRefusal):
        read_layers(str(tmp_path / "flat.nii.gz"))
    layer = SimpleNamespace(data=hu, name="scan", scale=np.array([2.0, 0.75, 0.5]), contrast_limits=[-160, 240])
    ((denoised, described, _),) = denoise_layer(layer, bundle=str(BUNDLE))
    assert np.array_equal(denoised, denoise_volume(hu, Denoiser.from_bundle(BUNDLE)))
    assert "not for primary diagnosis" in described["name"]
    ((one, _, _),) = denoise_layer(SimpleNamespace(**{**vars(layer), "data": hu[0]}), bundle=str(BUNDLE))
    assert np.array_equal(one, denoised[0])


def test_napari_takes_the_manifest_and_the_layers(tmp_path: Path) -> None:
    npe2 = pytest.importorskip("npe2")
    components = pytest.importorskip("napari.components")
    manifest = npe2.PluginManifest.from_file(MANIFEST)
    assert manifest.contributions.widgets[0].autogenerate
    Series(rows=40, columns=36).write(tmp_path / "scan")
    ((hu, shown, _),) = read_layers(str(tmp_path / "scan"))
    viewer = components.ViewerModel()  # napari without a window
    layer = viewer.add_image(hu, **shown)
    ((denoised, described, _),) = denoise_layer(layer, bundle=str(BUNDLE))
    beside = viewer.add_image(denoised, **described)
    assert beside.extent.world == pytest.approx(layer.extent.world)
