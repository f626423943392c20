"""What may be set in the bundle's configs, and one-line refusals for what may not.

MONAI takes an override that nobody reads without a word, and answers a wrong argument with pages of
traceback. The configs therefore call :func:`check` first, and name their settings here.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pydoc
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch

from iscl_monai.errors import ConfigRefusal, Refusal, TrainingStopped

NUMBER = (int, float)
TEXT = (str,)
FLAG = (bool,)
MAYBE_TEXT = (str, type(None))

SETTINGS: dict[str, tuple[type, ...]] = {
    "bundle_root": TEXT,
    "output_dir": TEXT,
    "ckpt_dir": TEXT,
    "dataset_dir": MAYBE_TEXT,
    "datalist": TEXT,
    "device": (),
    "seed": (int,),
    "hu_lower": NUMBER,
    "hu_upper": NUMBER,
    "width": (int,),
    "downsamplings": (int,),
    "residual_blocks": (int,),
    "skip": TEXT,
    "extractor_width": (int,),
    "extractor_layers": (int,),
    "silent_start": FLAG,
    "discriminator_width": (int,),
    "blend": NUMBER,
    "choose_blend": FLAG,
    "mode": TEXT,
    "keep_mean_px": (int,),
    "statistics": TEXT,
    "averaged": FLAG,
    "averaging_start": NUMBER,
    "patch_size": (int,),
    "batch_size": (int,),
    "num_workers": (int,),
    "epochs": (int,),
    "steps_per_epoch": (int,),
    "warm_up_steps": (int,),
    "learning_rate": NUMBER,
    "final_learning_rate": NUMBER,
    "nested_weight": NUMBER,
    "cycle_weight": NUMBER,
    "bypass_weight": NUMBER,
    "boosting_weight": NUMBER,
    "pseudo_noise_weight": NUMBER,
    "noise_consistency_weight": NUMBER,
    "zero_mean_weight": NUMBER,
    "val_interval": (int,),
    "validation_slices": (int,),
    "checkpoint_interval": (int,),
    "amp": FLAG,
    "resume": FLAG,
    "section": TEXT,
    "roi_size": (list, tuple, int),
    "overlap": NUMBER,
    "sw_batch_size": (int,),
    "input": MAYBE_TEXT,
    "series_uid": MAYBE_TEXT,
    "strength": NUMBER,
    "tile": (int, type(None)),
    "save_residual": FLAG,
}

STRUCTURE = (
    "imports",
    "initialize",
    "run",
    "training",
    "finalize",
    "evaluating",
    "train",
    "validate",
    "inference",
    "network_def",
    "network",
    "networks",
    "inferer",
    "identity",
    "denoiser",
    "preprocessing",
    "hu_window",
    "scans",
    "dataset",
    "dataloader",
    "evaluator",
    "handlers",
    "parallel",
    "_meta_",
)


def bundle_root() -> str:
    """The bundle's folder, as seen from the repository's root or from inside the bundle.

    Raises:
        ConfigRefusal: from anywhere else.
    """
    for place in (Path("."), Path("bundles/iscl")):
        if (place / "configs" / "metadata.json").is_file():
            return str(place)
    raise ConfigRefusal(
        f"{Path.cwd()} holds neither bundles/iscl nor configs/metadata.json",
        allowed="the repository's root or the bundle's folder",
        cure="change there, or give --bundle_root",
    )


def dataset(dataset_dir: str | None, root: str) -> str:
    """Where the datalist is: in the folder given, or in that of the phantom, which is made when absent."""
    if dataset_dir is not None:
        return dataset_dir
    phantom = importlib.import_module("data_prep.phantom")  # by name: the package never depends on data_prep
    folder = Path(root) / "data" / "phantom"
    spread = torch.distributed.is_available() and torch.distributed.is_initialized()
    if spread and os.environ.get("LOCAL_RANK", "0") != "0":
        torch.distributed.barrier()  # the first process of this machine makes it; two would tear it apart
    made = str(phantom.ensure_dataset(folder))
    if spread and os.environ.get("LOCAL_RANK", "0") == "0":
        torch.distributed.barrier()
    return made


def local_device() -> torch.device:
    """The device of this process under torchrun: its own GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    return device


def join() -> None:
    """Join the process group that torchrun describes in the environment.

    Raises:
        ConfigRefusal: when not started by torchrun.
    """
    if "LOCAL_RANK" not in os.environ:
        raise ConfigRefusal(
            "multi_gpu_train.json without torchrun",
            allowed="torchrun --nproc_per_node=N -m monai.bundle run ...",
            cure="start it with torchrun, or leave multi_gpu_train.json out",
        )
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def spread(network: torch.nn.Module) -> torch.nn.Module:
    """A network whose gradients are averaged over all processes."""
    device = next(network.parameters()).device
    ids = [device.index] if device.type == "cuda" else None
    return torch.nn.parallel.DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)


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


def check(*needed: str) -> None:
    """Check the configuration that is being run, before anything expensive starts.

    Called by the configs' ``initialize``. MONAI hands expressions no reference to the whole configuration, so
    it is looked up where MONAI keeps it: in the parser further up the stack.

    Args:
        needed: settings that must not be null.

    Raises:
        ConfigRefusal: for an unknown setting or argument, naming the nearest one, and for a wrong type.
    """
    sys.excepthook = _one_line
    config = _running_config()
    for name, value in config.items():
        if name not in SETTINGS and name not in STRUCTURE:
            raise _unknown(f"--{name}", name, [*SETTINGS, *STRUCTURE])
        if name in SETTINGS:
            _check_type(name, value)
    for name in needed:
        if _followed(config, name) is None:
            raise ConfigRefusal(f"--{name} is not given", allowed="a path", cure=f"add --{name} PATH")
    _check_folder("dataset_dir", config.get("dataset_dir"))
    for place, component in _components(config, ""):
        _check_arguments(place, component)


def _running_config() -> Mapping[str, Any]:
    from monai.bundle import ConfigParser

    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, ConfigParser):
            config = caller.config
            return config if isinstance(config, Mapping) else {}
        frame = frame.f_back
    return {}


def _followed(config: Mapping[str, Any], name: str) -> Any:
    """The value of a setting, or of the one it refers to."""
    value = config.get(name)
    while isinstance(value, str) and value.startswith("@") and value[1:] in config:
        value = config[value[1:]]
    return value


def _unknown(said: str, word: str, known: Sequence[str]) -> ConfigRefusal:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.4)
    return ConfigRefusal(
        f"{said} is not known",
        allowed=", ".join(sorted(known)) if not near else "settings of docs/settings.md",
        cure=f"did you mean {said.replace(word, near[0])}?" if near else "leave it out",
    )


def _check_type(name: str, value: Any) -> None:
    types = SETTINGS[name]
    computed = isinstance(value, str) and value.startswith(("$", "@", "%"))
    if not types or computed:
        return
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        said = " or ".join("null" if t is type(None) else t.__name__ for t in types)
        raise ConfigRefusal(
            f"--{name} is {value!r}, a {type(value).__name__}",
            allowed=said,
            cure="write True or False with a capital letter" if types == FLAG else f"give {name} as {said}",
        )


def _check_folder(name: str, value: Any) -> None:
    if isinstance(value, str) and not value.startswith(("$", "@", "%")) and not Path(value).exists():
        raise ConfigRefusal(
            f"--{name} {value} does not exist",
            allowed="an existing folder",
            cure=f"look for it in {Path.cwd()}",
        )


def _components(node: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield place, node
        children: Sequence[tuple[Any, Any]] = list(node.items())
    else:
        children = list(enumerate(node)) if isinstance(node, (list, tuple)) else []
    for name, child in children:
        yield from _components(child, f"{place}#{name}" if place else str(name))


def _check_arguments(place: str, component: Mapping[str, Any]) -> None:
    target = component["_target_"]
    if not isinstance(target, str) or not target.startswith("iscl_monai."):
        return  # MONAI resolves its own short names, and tells of their arguments itself
    found = pydoc.locate(target)
    if found is None:
        raise ConfigRefusal(f"{place}: {target} does not exist", allowed="a class or function", cure="check the name")
    signature = inspect.signature(found)  # type: ignore[arg-type]
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in signature.parameters.values()):
        return
    for argument in component:
        if not str(argument).startswith("_") and argument not in signature.parameters:
            raise _unknown(f"{place}#{argument}", str(argument), list(signature.parameters))


def _one_line(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Tell what was raised on purpose in one line; leave everything else to Python."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (Refusal, TrainingStopped)):
            print(f"{type(cause).__name__}: {cause}", file=sys.stderr, flush=True)
            # The interpreter would end with 1 whatever the hook does; a refusal ends with 2 everywhere.
            sys.stdout.flush()
            os._exit(2 if isinstance(cause, Refusal) else 1)
        cause = cause.__cause__ or cause.__context__
    sys.__excepthook__(kind, error, trace)
