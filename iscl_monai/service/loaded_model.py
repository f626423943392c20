"""What derived UIDs are made from, written by the worker, which has the model, for the node, which has not."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from iscl_monai.dicom.derivation import Derivation
from iscl_monai.durable import whole_file

MODEL_FILE = "model.json"


@dataclass(frozen=True)
class LoadedModel:
    """The model that a worker has loaded.

    Args:
        name: of the model.
        version: of the model.
        weights_digest: SHA-256 of its weights.
        parameters: of the derivation, without the strength, which is the rule's.
    """

    name: str
    version: str
    weights_digest: str
    parameters: dict[str, str]

    def derivation(self, strength: float) -> Derivation:
        """What a series denoised at this strength is derived by."""
        return Derivation.by_network(
            model=self.name,
            version=self.version,
            weights_digest=self.weights_digest,
            parameters={**self.parameters, "strength": f"{strength:g}"},
        )


def write_loaded_model(data: Path, model: LoadedModel) -> None:
    """Write it into the data folder."""
    with whole_file(data / MODEL_FILE) as file:
        file.write(json.dumps(asdict(model)).encode())


def read_loaded_model(data: Path) -> LoadedModel | None:
    """Read it; None if no worker has written it yet, or it is not whole."""
    try:
        return LoadedModel(**json.loads((data / MODEL_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
