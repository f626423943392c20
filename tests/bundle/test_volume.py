"""``inference_volume.json``, which MONAI Deploy, MONAI Label and MONAI's own engines take: what it does to a scan."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import numpy.typing as npt
import pytest
import torch
from dicom.synthetic import Series
from monai.bundle import ConfigParser, ckpt_export, verify_net_in_out
from monai.data import MetaTensor

from iscl_monai.errors import ConfigRefusal, ImageRefusal
from iscl_monai.inference import Denoiser, denoise_image, denoise_volume
from iscl_monai.inference.volumes import VolumeInferer

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "iscl"
CONFIG = BUNDLE / "configs" / "inference_volume.json"
META = BUNDLE / "configs" / "metadata.json"
AFFINE = np.array([[-0.7, 0.1, 0, 31.3], [0.1, 0.7, 0, 17.7], [0, 0, 2.5, -99.9], [0, 0, 0, 1]])

Workflow = Callable[..., Any]

# MONAI's LoadImage registers all of its readers, and one of them misses a plugin.
pytestmark = pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")


def phantom(columns: int = 48, rows: int = 40, slices: int = 3) -> npt.NDArray[np.int16]:
    """A noisy body in air, with bone and lung beyond and within the window; HU (column, row, slice)."""
    chance = np.random.default_rng(3)
    values = chance.normal(-1000, 15, (columns, rows, slices))
    values[6:-6, 5:-5] = chance.normal(40, 30, (columns - 12, rows - 10, slices))
    values[9:16, 8:20] = chance.normal(-850, 30, (7, 12, slices))
    values[30:34, 20:24] = 1300
    whole: npt.NDArray[np.int16] = np.rint(values).astype(np.int16)
    return whole


def parsed(bundle: Path | None = None, **settings: Any) -> ConfigParser:
    """As MONAI Deploy and MONAI Label read a config."""
    parser = ConfigParser()
    parser.read_config(str((bundle or BUNDLE) / "configs" / CONFIG.name))
    parser.config.update({"device": "cpu", **settings})
    parser.parse()
    return parser


def copied(folder: Path) -> Path:
    """A bundle of somebody's own, whose weights no other bundle has."""
    shutil.copytree(BUNDLE / "configs", folder / "configs")
    (folder / "models").mkdir()
    weights = torch.load(BUNDLE / "models" / "student.pt", weights_only=True)
    torch.save(weights, folder / "models" / "model.pt")
    return folder


# --- what it does ------------------------------------------------------------------------------------


def test_the_workflow_writes_bit_for_bit_what_denoise_writes(
    workflow: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nibabel.Nifti1Image(phantom(), AFFINE).to_filename(tmp_path / "scan.nii.gz")
    nibabel.Nifti1Image(phantom().astype(np.float32) + 0.25, AFFINE).to_filename(tmp_path / "fine.nii.gz")
    made = workflow("inference_volume", type="infer", dataset_dir=tmp_path, output_dir=tmp_path / "out", device="cpu")
    assert made.check_properties() == []
    made.run()
    denoiser = Denoiser.from_bundle(BUNDLE, device="cpu")
    for name in ("scan", "fine"):
        denoise_image(tmp_path / f"{name}.nii.gz", tmp_path / f"{name}.cli.nii.gz", denoiser=denoiser)
        ours = nibabel.load(tmp_path / "out" / f"{name}_denoised.nii.gz")
        other = nibabel.load(tmp_path / f"{name}.cli.nii.gz")
        assert np.array_equal(np.asarray(ours.dataobj), np.asarray(other.dataobj, np.float32))
        assert np.array_equal(ours.affine, other.affine)
        assert np.abs(np.asarray(ours.dataobj) - phantom()).mean() > 1
        outside = phantom() > 1000
        assert (np.asarray(ours.dataobj)[outside] == 1300 + 0.25 * (name == "fine")).all()


@pytest.mark.parametrize("spatial_dim", [0, 2])
def test_the_inferer_takes_both_orders_of_axes(spatial_dim: int) -> None:
    inferer = parsed().get_parsed_content("inferer")
    inferer.spatial_dim = spatial_dim
    network = parsed().get_parsed_content("network")
    volume_hu = phantom().astype(np.float32).transpose(2, 1, 0) + np.float32(0.25)  # (slice, row, column)
    expected = denoise_volume(volume_hu, Denoiser.from_bundle(BUNDLE, device="cpu"))
    given = volume_hu if spatial_dim == 0 else volume_hu.transpose(2, 1, 0)
    inputs = MetaTensor(torch.from_numpy(given.copy())[None, None], affine=torch.from_numpy(AFFINE))
    answer = inferer(inputs, network)
    assert answer.shape == inputs.shape
    assert np.array_equal(answer.affine, AFFINE)
    found = np.asarray(answer)[0, 0]
    assert np.array_equal(found if spatial_dim == 0 else found.transpose(2, 1, 0), expected)
    one = inferer(torch.from_numpy(volume_hu[:1].copy())[None], network)  # (1, 1, row, column)
    assert np.array_equal(one.numpy()[0], expected[:1])


def test_dicom_is_read_with_columns_first(tmp_path: Path) -> None:
    Series(rows=40, columns=36).write(tmp_path / "scan")
    loaded = parsed(dataset_dir=str(tmp_path / "scan")).get_parsed_content("dataset")[0]["image"]
    reader = parsed().get_parsed_content("preprocessing").transforms[0]._loader.readers[-1]
    image, meta = super(type(reader), reader).get_data(str(tmp_path / "scan"))
    assert loaded.shape == (1, 36, 40, image.shape[2])
    assert np.array_equal(np.asarray(loaded)[0].transpose(1, 0, 2), image)
    # The same voxel at the same place, and MONAI's own bookkeeping of sizes agrees.
    row, column, number = 7, 3, 1
    place = np.asarray(loaded.affine) @ [column, row, number, 1]
    np.testing.assert_allclose(place, np.asarray(meta["affine"]) @ [row, column, number, 1], atol=1e-9)
    assert list(loaded.meta["spatial_shape"]) == [36, 40, image.shape[2]]


def test_what_is_no_volume_is_refused() -> None:
    inferer = parsed().get_parsed_content("inferer")
    network = parsed().get_parsed_content("network")
    with pytest.raises(ImageRefusal, match=r"batch, 1, column, row, slice"):
        inferer(torch.zeros(40, 40), network)
    with pytest.raises(ImageRefusal, match="NaN"):
        inferer(torch.full((1, 1, 40, 40, 2), float("nan")), network)
    with pytest.raises(ConfigRefusal, match="hu_window"):
        inferer(torch.zeros(1, 1, 40, 40, 2), torch.nn.Identity())
    with pytest.raises(ConfigRefusal, match="spatial_dim 1"):
        VolumeInferer(spatial_dim=1)


# --- where it lies -----------------------------------------------------------------------------------


def test_every_tool_of_monai_finds_the_bundle_that_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = copied(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    config = str(own / "configs" / CONFIG.name)
    # monai.bundle's commands hold the path of the config ...
    seen, config_imports = tmp_path / "seen.txt", json.loads(CONFIG.read_text())["imports"]
    verify_net_in_out(
        "network_def",
        meta_file=str(META),
        config_file=config,
        device="cpu",
        weights_file=f"$(pathlib.Path({str(seen)!r}).write_text(@bundle_root), released.weights_file(@ckpt_dir))[1]",
        imports=[*config_imports, "$import pathlib"],
    )
    assert Path(seen.read_text()) == own
    # ... MONAI Deploy puts the bundle on Python's path ...
    with monkeypatch.context() as deploy:
        deploy.syspath_prepend(str(own))
        assert Path(parsed(own).get_parsed_content("bundle_root")) == own
    # ... MONAI Label sets bundle_root ...
    assert parsed(own, bundle_root=str(own)).get_parsed_content("weights_file") == own / "models" / "model.pt"


@pytest.mark.parametrize("config", ["train.json", "inference_volume.json"])
def test_a_bare_parser_elsewhere_takes_no_other_bundle(
    config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    parser = ConfigParser()
    parser.read_config(str(BUNDLE / "configs" / config))
    parser.parse()
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("bundle_root")
    assert "--bundle_root" in str(raised.value.__cause__)


# --- exports of MONAI; ONNX, OpenVINO and TensorRT: tests/release/check_exports.py --------------------------------


def test_torchscript_of_monai_answers_as_torch_does(trained: Any, tmp_path: Path) -> None:
    weights, script = str(trained.ckpt_dir / "model.pt"), tmp_path / "model.ts"
    own = {"ckpt_dir": str(trained.ckpt_dir), "device": "cpu"}
    ckpt_export("network_def", script, weights, str(META), str(CONFIG), **own)
    network = parsed(**own).get_parsed_content("network").eval()
    inferer = parsed().get_parsed_content("inferer")
    inputs_hu = torch.from_numpy(phantom().astype(np.float32) + 0.25)[None, None]
    # A scripted network says its window, too, and the inferer asks nothing else of it.
    scripted, expected = inferer(inputs_hu, torch.jit.load(str(script))), inferer(inputs_hu, network)
    assert (scripted - expected).abs().max() < 0.01
    assert (expected - inputs_hu).abs().mean() > 1
