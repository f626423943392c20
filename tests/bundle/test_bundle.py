"""The bundle as MONAI's tools see it, and its configs at work on one tiny trained model."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from dicom.synthetic import Series
from monai.bundle import ckpt_export, verify_metadata, verify_net_in_out
from typer.testing import CliRunner

from iscl_monai.cli import app
from iscl_monai.dicom.series import read_series
from iscl_monai.quality.protocol import HU_BODY

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = Path("bundles/iscl/configs")
META = str(CONFIGS / "metadata.json")
SCHEMA = ROOT.parent / "shared" / "schema" / "meta_schema_20240725.json"

Workflow = Callable[..., Any]


def content(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((ROOT / CONFIGS / f"{name}.json").read_text())
    return loaded


# --- configs agree -----------------------------------------------------------------------------------


OWN = {
    "imports",
    "dataset",
    "evaluator",
    "hu_window",
    "preprocessing",
    "initialize",
    "run",
    "network",
    "network_def",
    "inferer",
    "denoiser",
}
"""What each config has its own way of; every other name means the same in all of them."""


def test_configs_that_share_a_name_agree_on_it() -> None:
    train, evaluate, inference = (content(name) for name in ("train", "evaluate", "inference"))
    volume = content("inference_volume")
    for name in (inference.keys() & volume.keys()) - OWN - {"bundle_root"}:  # which is only read from there
        assert inference[name] == volume[name], name
    assert volume["network_def"] == inference["network_def"]
    compared = set()
    for one, other in ((train, evaluate), (train, inference), (evaluate, inference)):
        for name in (one.keys() & other.keys()) - OWN:
            assert one[name] == other[name], name
            compared.add(name)
    assert {"mode", "ckpt_dir", "weights_file", "trust_hu"} <= compared
    assert evaluate["network"] == inference["network"]
    assert evaluate["network_def"].replace(", domain=@domain", "") == inference["network_def"]  # which is of CT alone
    window = "@hu_window"
    users = (train["train"]["windowing"], train["validate"]["dataset"], train["validate"]["evaluator"])
    users += (evaluate["preprocessing"],)
    assert [user["hu_window"] for user in users] == [window] * 4
    assert evaluate["hu_window"] == "$@network_def.hu_window"  # of the weights, as the deployed denoiser has it


def test_the_networks_in_training_are_those_of_the_deployed_denoiser() -> None:
    train = content("train")
    for name in ("denoiser", "noise_extractor"):
        trained = dict(train["networks"][name])
        trained.pop("silent_start", None)  # how a training starts says nothing about its end
        assert trained == train["network_def"][name]


# --- MONAI's own checks ------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:No hash value provided")  # it is our own copy
def test_metadata_follow_the_schema(tmp_path: Path) -> None:
    if not SCHEMA.exists() and os.environ.get("CI") != "true":
        pytest.skip(f"{SCHEMA} is not here")
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")  # a file that exists is not fetched
    verify_metadata(meta_file=META, filepath=str(schema))
    broken = {name: value for name, value in content("metadata").items() if name != "network_data_format"}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(ValueError, match="network_data_format"):
        verify_metadata(meta_file=str(tmp_path / "broken.json"), filepath=str(schema))


def test_the_version_has_a_changelog_entry() -> None:
    meta = content("metadata")
    assert meta["version"] in meta["changelog"]


def test_the_network_takes_and_gives_what_the_metadata_say(trained: Any) -> None:
    config = str(CONFIGS / "inference.json")
    verify_net_in_out("network_def", meta_file=META, config_file=config, ckpt_dir=str(trained.ckpt_dir))


def test_the_weights_export_to_torchscript(trained: Any, workflow: Workflow, tmp_path: Path) -> None:
    exported = tmp_path / "model.ts"
    weights = trained.ckpt_dir / "model.pt"
    config = str(CONFIGS / "inference.json")
    ckpt_export(
        "network_def",
        filepath=str(exported),
        ckpt_file=str(weights),
        meta_file=META,
        config_file=config,
        ckpt_dir=str(trained.ckpt_dir),
    )
    places = {"ckpt_dir": trained.ckpt_dir, "device": "cpu", "input": META}
    network = workflow("inference", **places).parser.get_parsed_content("network")
    x = torch.rand(2, 1, 48, 64) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(str(exported))(x), network(x), rtol=0, atol=1e-5)


def test_the_training_has_all_properties(
    workflow: Workflow, tiny: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    made = workflow("train", type="train", dataset_dir=phantom, output_dir=tmp_path, **tiny)
    assert made.check_properties() == []
    assert made.max_epochs == tiny["epochs"]
    assert made.trainer is made.parser.get_parsed_content("train#trainer")


def test_the_inference_has_all_properties(workflow: Workflow, trained: Any, phantom: Path) -> None:
    places = {"dataset_dir": phantom / "patients" / "P01" / "low", "ckpt_dir": trained.ckpt_dir}
    made = workflow("inference", type="infer", **places)
    assert made.check_properties() == []
    assert len(made.dataset_data) == 1  # dataset_dir alone will do: MONAI's tools know no "input"


# --- at work -----------------------------------------------------------------------------------------


def test_the_training_left_its_files(trained: Any) -> None:
    left = {str(path.relative_to(trained.output_dir)) for path in trained.output_dir.rglob("*.pt")}
    assert left == {f"checkpoints/checkpoint_epoch={epoch}.pt" for epoch in (2, 3)}
    assert list((trained.output_dir / "tensorboard").iterdir())
    for name in ("model.pt", "model_last.pt"):
        weights = torch.load(trained.ckpt_dir / name, weights_only=True)
        assert {key.split(".")[0] for key in weights} == {"denoiser", "noise_extractor", "blend", "description"}


def test_evaluation(workflow: Workflow, trained: Any, phantom: Path, tmp_path: Path) -> None:
    places = {"output_dir": tmp_path, "ckpt_dir": trained.ckpt_dir, "dataset_dir": phantom}
    workflow("evaluate", **places).run()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["protocol"] == HU_BODY.identity
    assert metrics["items"] == 1
    names = ("psnr_db", "ssim", "rmse_hu", "noise_hu", "generator_psnr_db", "extractor_psnr_db", "input_ssim")
    assert all(np.isfinite(metrics[name]) for name in names)
    # A tiny network after fifteen steps is no denoiser, but its input is always the same.
    pair = json.loads((phantom / "datalist.json").read_text())["test"][0]
    noisy, clean = (read_series(phantom / pair[key]).hu for key in ("noisy", "clean"))
    body = clean > -500  # roughly that of hu-body
    assert metrics["input_rmse_hu"] == pytest.approx(np.sqrt(np.mean((noisy - clean)[body] ** 2)), rel=0.2)


def test_inference_keeps_affine_and_what_the_window_cannot_show(
    workflow: Workflow, trained: Any, tmp_path: Path
) -> None:
    chance = np.random.default_rng(0)
    values = np.rint(chance.normal(-1000, 20, (40, 56, 3))).astype(np.int16)
    values[6:-6, 6:-6] = np.rint(chance.normal(40, 30, (28, 44, 3)))
    values[8:12, 10:14] = 2500
    values[:3] = -1024
    affine = np.array([[-0.7, 0.1, 0, 31.3], [0.1, -0.7, 0, 17.7], [0, 0, 2.5, -99.9], [0, 0, 0, 1]])
    (tmp_path / "in").mkdir()
    for name in ("one", "two"):
        nibabel.Nifti1Image(values, affine).to_filename(tmp_path / "in" / f"{name}.nii.gz")
    places = {"output_dir": tmp_path / "out", "ckpt_dir": trained.ckpt_dir, "input": tmp_path / "in"}
    workflow("inference", **places).run()

    before = nibabel.load(tmp_path / "in" / "one.nii.gz")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "one_denoised.nii.gz",
        "two_denoised.nii.gz",
    ]
    for path in (tmp_path / "out").iterdir():
        after = nibabel.load(path)
        assert np.array_equal(after.affine, before.affine)
        assert after.get_data_dtype() == np.int16
        assert "not for primary diagnosis" in str(after.header["descrip"])
        denoised = after.get_fdata()
        outside = np.abs(values) > 1000
        assert np.array_equal(denoised[outside], values[outside])
        assert np.abs(denoised - values)[~outside].mean() > 1


def test_the_bundle_and_the_command_line_give_the_same_dicom(workflow: Workflow, trained: Any, tmp_path: Path) -> None:
    Series(rows=40, columns=36).write(tmp_path / "scan")
    places = {"output_dir": tmp_path / "out", "ckpt_dir": trained.ckpt_dir, "dataset_dir": tmp_path / "scan"}
    workflow("inference", **places, save_residual=True, strength=0.5).run()
    (tmp_path / "bundle" / "configs").mkdir(parents=True)
    shutil.copy(META, tmp_path / "bundle" / "configs")
    shutil.copytree(trained.ckpt_dir, tmp_path / "bundle" / "models")
    options = ["--bundle", str(tmp_path / "bundle"), "--strength", "0.5", "--save-residual", "--device", "cpu"]
    done = CliRunner().invoke(app, ["denoise", str(tmp_path / "scan"), str(tmp_path / "cli"), *options])
    assert done.exit_code == 0, done.output
    names = sorted(path.relative_to(tmp_path / "cli") for path in (tmp_path / "cli").rglob("*.dcm"))
    assert len(names) == 10
    for name in names:
        one, other = (pydicom.dcmread(folder / name) for folder in (tmp_path / "cli", tmp_path / "out/scan_denoised"))
        assert one.PixelData == other.PixelData
        assert one.SOPInstanceUID == other.SOPInstanceUID
        assert one.DerivationDescription == other.DerivationDescription


# --- every override config trains --------------------------------------------------------------------

ALL = {
    *("noisy_discriminator", "clean_discriminator", "boosting", "adversarial", "bypass"),
    *("zero_mean", "pseudo_noise", "noise_consistency"),
}

OVERRIDES = {
    ("paper",): ALL - {"zero_mean"} | {"cycle"},
    ("no_bypass",): ALL - {"bypass"},
    ("no_boosting",): ALL - {"boosting"},
    ("no_noise_consistency",): ALL - {"noise_consistency"},
    ("cyclegan",): {"noisy_discriminator", "clean_discriminator", "adversarial", "cycle"},
    ("supervised_twin",): {"supervised"},
    ("supervised_twin", "red_cnn"): {"supervised"},
    ("noise2void",): {"blind_spot"},
    ("small",): ALL,
}


@pytest.mark.parametrize("names", OVERRIDES, ids="+".join)
def test_an_override_config_trains_a_step(
    names: tuple[str, ...],
    workflow: Workflow,
    tiny: dict[str, Any],
    phantom: Path,
    tmp_path: Path,
) -> None:
    places = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models", "dataset_dir": phantom}
    one_step = {"epochs": 1, "steps_per_epoch": 1, "warm_up_steps": 0}
    run = workflow("train", *names, **places, **(tiny | one_step))
    run.run()
    output = run.parser.get_parsed_content("train#trainer").state.output
    assert {name for name, value in output.items() if isinstance(value, float)} == OVERRIDES[names]
    assert (tmp_path / "models" / "model.pt").is_file()
    assert (tmp_path / "out" / "checkpoints" / "checkpoint_epoch=1.pt").is_file()


def test_a_network_with_a_skip_comes_back_from_its_file(
    workflow: Workflow, tiny: dict[str, Any], phantom: Path, tmp_path: Path
) -> None:
    """Its threshold is measured on the training pool; inference never sees that pool."""
    places = {"output_dir": tmp_path / "out", "ckpt_dir": tmp_path / "models", "dataset_dir": phantom}
    one_step = {"epochs": 1, "steps_per_epoch": 1, "warm_up_steps": 0}
    run = workflow("train", **places, **(tiny | one_step))
    run.run()
    inference = {"ckpt_dir": tmp_path / "models", "input": phantom / "patients" / "P01" / "low"}
    again = workflow("inference", **inference)
    x = torch.rand(1, 1, 32, 32) * 2 - 1
    trained, loaded = (made.parser.get_parsed_content("network") for made in (run, again))
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), trained(x), rtol=0, atol=0)


def test_every_override_config_is_tried() -> None:
    tried = {name for names in OVERRIDES for name in names}
    harvesting = {"unet", "harvest_alone"}  # in test_resume.py, on scans with flat tissue
    elsewhere = {"demo", "em", "film", "mr"}  # test_demo.py, micrograph/test_how_to.py, test_domains.py
    others = {"train", "evaluate", "inference", "metadata", "multi_gpu_train", "release", "fine_tune"}
    others |= harvesting | elsewhere | {"inference_volume", "mlflow"}  # in test_volume.py, test_mlflow.py
    assert {path.stem for path in (ROOT / CONFIGS).glob("*.json")} == tried | others
