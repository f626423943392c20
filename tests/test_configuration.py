"""Misspelt, ill-typed and missing settings are refused in one line; the tables say what there is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigWorkflow
from programs import Programs

from iscl_monai.configuration import SETTINGS, STRUCTURE, bundle_root, check, dataset, hook, images, local_device
from iscl_monai.errors import ConfigRefusal, NonFiniteLoss

ROOT = Path(__file__).resolve().parents[1]
BUNDLE = ROOT / "bundles" / "iscl"
CONFIGS = {path.stem: path for path in (BUNDLE / "configs").glob("*.json") if path.stem != "metadata"}


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At the repository's root, and the hook that ``check`` installs taken back."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    path = list(sys.path)
    yield
    sys.path[:] = path


def started(name: str, **overrides: Any) -> ConfigWorkflow:
    """The workflow after its ``initialize``, which is where ``check`` runs."""
    made = ConfigWorkflow(
        config_file=str(CONFIGS[name]),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        logging_file=False,
        workflow_type=None,
        **overrides,
    )
    made.initialize()
    return made


def refusal(name: str, **overrides: Any) -> str:
    with pytest.raises(RuntimeError) as caught:
        started(name, **overrides)
    assert isinstance(caught.value.__cause__, ConfigRefusal)
    return str(caught.value.__cause__)


# --- check -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("misspelt", "nearest"),
    [
        ("epoch", "--epochs"),
        ("learning_rat", "--learning_rate"),
        ("datasetdir", "--dataset_dir"),
        ("wdth", "--width"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_nearest(misspelt: str, nearest: str) -> None:
    said = refusal("train", **{misspelt: 2})
    assert f"--{misspelt} is not known" in said
    assert f"did you mean {nearest}?" in said


def test_a_setting_like_none_we_know_is_told_them_all() -> None:
    said = refusal("train", qqqqq=1)
    assert "--qqqqq is not known" in said
    assert "batch_size, " in said


@pytest.mark.parametrize(
    ("place", "nearest"),
    [
        ("train#trainer#warmup_steps", "train#trainer#warm_up_steps"),
        ("train#weights#bypas", "train#weights#bypass"),
        ("network_def#denoiser#widht", "network_def#denoiser#width"),
        ("train#guard#first_iter", "train#guard#first_iteration"),
    ],
)
def test_a_misspelt_nested_argument_is_refused_with_the_nearest(place: str, nearest: str) -> None:
    said = refusal("train", **{place: 1})
    assert f"{place} is not known" in said
    assert f"did you mean {nearest}?" in said


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("epochs", "2x", "--epochs is '2x', a str; allowed: int"),
        ("epochs", 2.0, "--epochs is 2.0, a float; allowed: int"),
        ("width", True, "--width is True, a bool; allowed: int"),
        ("learning_rate", "fast", "--learning_rate is 'fast', a str; allowed: int or float"),
        (
            "resume",
            "false",
            "--resume is 'false', a str; allowed: bool; do: write True or False with a capital",
        ),
        ("output_dir", 3, "--output_dir is 3, a int; allowed: str"),
        ("dataset_dir", 3, "--dataset_dir is 3, a int; allowed: str or null"),
    ],
)
def test_a_wrong_type_is_refused(setting: str, value: Any, said: str) -> None:
    assert said in refusal("train", **{setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("learning_rate", 1), ("extractor_width", "@width"), ("resume", False), ("blend", 1)],
)
def test_a_right_type_is_not(setting: str, value: Any) -> None:
    started("train", **{setting: value})


def test_a_dataset_that_is_not_there_is_refused(tmp_path: Path) -> None:
    said = refusal("train", dataset_dir=str(tmp_path / "nowhere"))
    assert f"--dataset_dir {tmp_path / 'nowhere'} does not exist" in said


def test_a_target_that_is_not_there_is_refused() -> None:
    said = refusal("train", **{"train#guard#_target_": "iscl_monai.training.Gard"})
    assert "train#guard: iscl_monai.training.Gard does not exist" in said


def test_configs_that_do_not_belong_together_are_refused() -> None:
    """Each is for other images: what one refers to the other has replaced."""
    files = [str(CONFIGS[name]) for name in ("train", "small", "em", "mr")]
    made = ConfigWorkflow(config_file=files, logging_file=False, workflow_type=None)
    with pytest.raises(RuntimeError) as caught:
        made.initialize()
    assert isinstance(caught.value.__cause__, ConfigRefusal)
    said = str(caught.value.__cause__)
    assert "train#checkpoint#settings#noise_multiplies refers to train#harvested#multiplies, which" in said
    assert "leave out the one that is for other images" in said


def test_what_cannot_be_found_is_not_passed() -> None:
    """Another way in than MONAI's parser would leave every setting unchecked, and nobody would see."""
    with pytest.raises(ConfigRefusal, match=r"was not found, so its settings cannot be checked; .*monai\.bundle run"):
        check()


def test_inference_wants_an_input(tmp_path: Path) -> None:
    assert "--input is not given" in refusal("inference")
    started("inference", input=str(tmp_path))
    started("inference", dataset_dir=str(tmp_path))


@pytest.mark.parametrize("name", ["train", "evaluate"])
def test_the_configs_themselves_pass(name: str) -> None:
    started(name)


# --- the tables --------------------------------------------------------------------------------------


def contents() -> dict[str, dict[str, Any]]:
    return {name: json.loads(path.read_text()) for name, path in CONFIGS.items()}


def words(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        for child in node.values():
            yield from words(child)
    elif isinstance(node, list):
        for child in node:
            yield from words(child)
    elif isinstance(node, str):
        yield node


def test_the_tables_name_what_the_configs_use_and_nothing_else() -> None:
    used = {name.removeprefix("+").split("#")[0] for content in contents().values() for name in content}
    assert used == (SETTINGS.keys() | set(STRUCTURE)) - {"_meta_"}
    assert not SETTINGS.keys() & set(STRUCTURE)


def test_every_setting_is_read_by_a_config_that_has_it() -> None:
    for name, content in contents().items():
        if name not in ("train", "evaluate", "inference", "inference_volume"):
            continue
        text = " ".join(words(content))
        for setting in SETTINGS.keys() & content.keys():
            assert f"@{setting}" in text, f"{name}.json takes {setting} and never uses it"


def test_override_configs_bring_nothing_new() -> None:
    known = contents()["train"].keys() | {"tracking_uri", "experiment_name", "run_name"}  # of mlflow.json
    for name in CONFIGS.keys() - {"train", "evaluate", "inference", "inference_volume"}:
        for key in contents()[name]:
            assert key in known or "#" in key or key == "finalize", (name, key)


# --- helpers of the configs --------------------------------------------------------------------------


def test_the_bundle_is_found_from_the_root_and_from_inside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Path(bundle_root()) == Path("bundles/iscl")
    monkeypatch.chdir(BUNDLE)
    assert Path(bundle_root()) == Path()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigRefusal, match="neither bundles/iscl nor"):
        bundle_root()


def test_without_a_dataset_the_phantom_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import iscl_monai.phantom

    made: list[Path] = []
    monkeypatch.setattr(iscl_monai.phantom, "ensure_dataset", lambda folder: made.append(folder) or folder / "d.json")
    assert dataset("given", str(tmp_path)) == "given"
    assert not made
    assert dataset(None, str(tmp_path)) == str(tmp_path / "data" / "phantom" / "d.json")
    assert made == [tmp_path / "data" / "phantom"]


@pytest.mark.parametrize(("rank", "order"), [("0", ["made", "barrier"]), ("1", ["barrier", "made"])])
def test_of_several_processes_only_the_first_makes_the_phantom(
    rank: str, order: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import iscl_monai.phantom

    seen: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "barrier", lambda: seen.append("barrier"))
    monkeypatch.setattr(iscl_monai.phantom, "ensure_dataset", lambda folder: seen.append("made"))
    dataset(None, str(tmp_path))
    assert seen == order


def test_images_of_a_path(tmp_path: Path) -> None:
    for name in ("b.nii.gz", "a.mha", "notes.txt"):
        (tmp_path / name).touch()
    assert images(tmp_path) == [str(tmp_path / "a.mha"), str(tmp_path / "b.nii.gz")]
    assert images(str(tmp_path / "a.mha")) == [str(tmp_path / "a.mha")]
    (tmp_path / "dicom").mkdir()
    assert images(tmp_path / "dicom") == [str(tmp_path / "dicom")]
    with pytest.raises(ConfigRefusal, match=r"--input .*gone does not exist"):
        images(tmp_path / "gone")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_local_device_without_gpu() -> None:
    assert local_device() == torch.device("cpu")


# --- the command line --------------------------------------------------------------------------------


TRAINING = ["monai.bundle", "run", "training", "--config_file"]
REFUSED = "ConfigRefusal: --epoch is not known; allowed: settings of docs/settings.md; do: did you mean --epochs?\n"


@pytest.mark.slow
def test_the_command_line_refuses_in_one_line() -> None:
    words = [sys.executable, "-W", "ignore::UserWarning", "-m", *TRAINING, "bundles/iscl/configs/train.json"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, "--epoch", "2"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr == REFUSED


def test_it_does_so_in_the_bundle_too(programs: Programs) -> None:
    done = programs.run([*TRAINING, "configs/train.json", "--epoch", "2"], cwd=BUNDLE)
    assert done.returncode == 2
    assert done.stderr == REFUSED


def test_a_refusal_deep_in_a_transform_is_one_line_too(programs: Programs, tmp_path: Path) -> None:
    """MONAI wraps it several times over; the datalist is read long after the check."""
    (tmp_path / "datalist.json").write_text('{"noisy": []}')
    done = programs.run([*TRAINING, "bundles/iscl/configs/train.json", "--dataset_dir", str(tmp_path)])
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"DatalistRefusal: {tmp_path}/datalist.json: no scan in 'noisy'")


def test_the_hook_tells_refusals_and_leaves_faults_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ended: list[int] = []
    shown: list[BaseException] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.setattr(sys, "__excepthook__", lambda kind, error, trace: shown.append(error))
    wrapped = RuntimeError("MONAI's")
    wrapped.__cause__ = NonFiniteLoss("cycle is nan")
    hook._one_line(RuntimeError, wrapped, None)
    assert ended == [1]
    assert capsys.readouterr().err == "NonFiniteLoss: cycle is nan\n"
    shown.clear()
    fault = ValueError("ours")
    hook._one_line(ValueError, fault, None)
    assert ended == [1]
    assert shown == [fault]
