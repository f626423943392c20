"""DICOM in, derived DICOM out: what reading and writing cost beside the network, and how memory grows.

    python benchmarks/denoise_series.py            # both claims, with the default network
    python benchmarks/denoise_series.py --slices 60 --rounds 3 --width 16 --memory 20 200

Prints (1) the time of ``denoise_series`` over that of the network alone on the same slices with the same workers, in
rounds that alternate, and (2) the peak memory of a process that denoises the long series over that of the short one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

SIDE = 512


def make_series(folder: Path, slices: int, side: int = SIDE) -> None:
    """A noisy disk in air, as an original axial CT series."""
    folder.mkdir()
    random = np.random.default_rng(0)
    rows, columns = np.ogrid[:side, :side]
    body = (rows - side / 2) ** 2 + (columns - side / 2) ** 2 < (side * 0.4) ** 2
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for index in range(slices):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, meta.MediaStorageSOPInstanceUID
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = study, series, frame
        dataset.Modality, dataset.PatientID, dataset.SeriesNumber, dataset.InstanceNumber = "CT", "B", 1, index + 1
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, index], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
        dataset.Rows = dataset.Columns = side
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
        stored = np.where(body, 1064, 24) + random.normal(0, 30, (side, side))
        dataset.PixelData = stored.round().clip(0, 4095).astype("<u2").tobytes()
        dataset.save_as(folder / f"{index:05d}.dcm", enforce_file_format=True)


def make_denoiser(width: int):
    """Random weights: the time is that of trained ones."""
    from iscl_monai.hu import HUWindow
    from iscl_monai.inference import Denoiser, ModelIdentity
    from iscl_monai.networks import DenoisingNetwork, Generator, NoiseExtractor

    torch.manual_seed(0)
    parts = {"denoiser": Generator(width=width), "noise_extractor": NoiseExtractor(width=width)}
    network = DenoisingNetwork(**parts, hu_window=HUWindow(-1000, 1000))
    return Denoiser(network, identity=ModelIdentity("ISCL", "benchmark", "0" * 64))


def time_ratio(slices: int, rounds: int, width: int) -> list[float]:
    """End to end over network alone, one ratio per round."""
    from iscl_monai.dicom.series import read_series
    from iscl_monai.inference import denoise_series, denoise_volume

    denoiser = make_denoiser(width)
    ratios = []
    with tempfile.TemporaryDirectory() as place:
        make_series(Path(place) / "in", slices)
        hu = read_series(Path(place) / "in").hu
        denoise_volume(hu[:2], denoiser)
        for round_ in range(rounds):
            begun = time.perf_counter()
            denoise_volume(hu, denoiser)
            network = time.perf_counter() - begun
            begun = time.perf_counter()
            denoise_series(Path(place) / "in", Path(place) / f"out{round_}", denoiser=denoiser)
            whole = time.perf_counter() - begun
            shutil.rmtree(Path(place) / f"out{round_}")
            ratios.append(whole / network)
            print(
                f"round {round_ + 1}: network {network / slices * 1e3:.0f} ms/slice, "
                f"end to end {whole / slices * 1e3:.0f} ms/slice, ratio {ratios[-1]:.3f}",
                flush=True,
            )
    return ratios


def peak_mib(slices: int, width: int) -> float:
    """Peak resident memory of a fresh process that denoises so many slices."""
    with tempfile.TemporaryDirectory() as place:
        make_series(Path(place) / "in", slices)
        command = [sys.executable, __file__, "--child", place, "--width", str(width)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return float(json.loads(done.stdout.splitlines()[-1]))


def child(place: Path, width: int) -> None:
    """Denoise, then print the peak memory in MiB."""
    from iscl_monai.inference import denoise_series

    denoise_series(place / "in", place / "out", denoiser=make_denoiser(width), workers=2)
    # Not ru_maxrss: a process begins with the peak of the one that started it.
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(json.dumps(int(status["VmHWM"].split()[0]) / 1024))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--memory", type=int, nargs=2, default=(100, 1000), metavar=("SHORT", "LONG"))
    parser.add_argument("--memory-width", type=int, default=4, help="a narrow network, so that slices weigh more")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.width)
        return
    if options.rounds:
        ratios = time_ratio(options.slices, options.rounds, options.width)
        median = statistics.median(ratios)
        print(f"time, {options.slices} slices of {SIDE}x{SIDE}: end to end / network, median {median:.3f}")
    short, long = (peak_mib(slices, options.memory_width) for slices in options.memory)
    few, many = options.memory
    print(f"memory: {short:.0f} MiB for {few} slices, {long:.0f} MiB for {many}: {long / short:.3f}")


if __name__ == "__main__":
    main()
