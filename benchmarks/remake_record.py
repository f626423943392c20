"""Measure the scans that released weights were trained on again, where their record learns to say something new.

    python benchmarks/remake_record.py DATALIST bundles/iscl

The tensors stay as they are. What the record said before must come out the same, or these are not the scans; what it
has of the training itself (``patients``, ``recipe``) stays.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from iscl_monai.data import Datalist, cached
from iscl_monai.released import ENSEMBLE, STUDENT, record_in, weights_in
from iscl_monai.training.handlers import training_record
from iscl_monai.transforms import loading

KEPT = ("patients", "recipe")


def remade(record: dict[str, Any], measured: dict[str, Any]) -> dict[str, Any]:
    """The record with what has been measured anew.

    Raises:
        SystemExit: something that both have differs.
    """
    fresh = {name: value for name, value in measured.items() if name not in KEPT}
    changed = [name for name in fresh if name in record and record[name] != fresh[name]]
    if changed:
        differ = "; ".join(f"{name} {record[name]} became {fresh[name]}" for name in changed)
        raise SystemExit(f"{differ}; allowed: the scans of the training; do: give its own datalist")
    kept = {name: value for name, value in record.items() if name != "recipe"}
    return kept | fresh | {"recipe": record["recipe"]}


def main() -> None:
    """Write the record, and prove that the weights are those that were released."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datalist", type=Path)
    parser.add_argument("bundle", type=Path)
    arguments = parser.parse_args()
    path = record_in(arguments.bundle, ENSEMBLE)
    scans = Datalist.load(arguments.datalist)
    pools = [cached(pool, loading=loading(keys="image"), num_workers=1) for pool in (scans.noisy, scans.clean)]
    record = remade(json.loads(path.read_text(encoding="utf-8")), training_record(scans, pools))
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    for size in (ENSEMBLE, STUDENT):
        print(size, weights_in(arguments.bundle, size).path, "is what was released")


if __name__ == "__main__":
    main()
