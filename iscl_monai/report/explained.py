"""What is behind the verdicts, to stand on the page itself: a reader may have no network."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Topic = Literal["noise", "shift", "residual", "frequency", "score", "dose"]


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What a kind of verdict means.

    Args:
        topic: which one; ``about-TOPIC`` is its place in the page.
        title: its heading.
        text: a few sentences.
    """

    topic: Topic
    title: str
    text: str


_TEXTS: dict[Topic, tuple[str, str]] = {
    "noise": (
        "Noise, and the dose that would have taken it",
        "Quantum noise falls as 1/√dose: half the noise is four times the dose. Less than a tenth removed is "
        "less than any filter takes, unless the scan is no louder than what the weights leave on purpose "
        "(released ones 11 HU; target_noise_hu under Made with). As quiet as more than ten times the dose is "
        "quieter than scans are, and tissue then looks like plastic: --target-noise or --target-dose leaves "
        "more. Judged where tissue is uniform, in fat and soft tissue; in lung and bone structure counts as "
        "noise, and air is cut off by many scanners. Less noise does not mean that faint lesions were kept.",
    ),
    "shift": (
        "Mean Hounsfield units",
        "Noise has no mean, so a denoiser should move none. Chance may move it by 2 HU; for water, the order "
        "of 4 HU is what IEC 61223-3-5 and the ACR programme allow. Beyond, tissue was changed.",
    ),
    "residual": (
        "Anatomy in what was removed",
        "How much of the image, or of its edges, shows in the residual: 0 is noise alone, 1 anatomy alone. Up"
        " to 0.1 is found with noise alone; noise itself is louder where more is in the beam, so up to 0.3 "
        "need not be anatomy. Look at Removed: edges and organs in it were taken from the image.",
    ),
    "frequency": (
        "Grain of the noise",
        "The frequency of noise is how fine its grain is. What moves by more than 20 % looks other than noise"
        " that readers know: coarser noise is blotchy and may look like lesions, finer noise comes with "
        "enhanced edges.",
    ),
    "score": (
        "Scores against a reference",
        "PSNR, SSIM and RMSE compare with another scan of the same place, which has noise of its own. Only "
        "the difference to the input's score says something. Smooth images score well: a faint lesion that is"
        " gone hardly counts.",
    ),
    "dose": (
        "Whether simulated noise is that of its dose",
        "The noise found in the simulation, over what physics expects of this dose, should be 1. From 0.85 to"
        " 1.15 it is taken, as in the self-check of the calibration. Beyond, a network trained on it would "
        "learn the wrong noise.",
    ),
}


def explanations(topics: Iterable[str]) -> list[Explanation]:
    """What is behind the verdicts of these topics, each once, in the order of the page's foot.

    Args:
        topics: of verdicts; empty ones have nothing to be explained.
    """
    wanted = set(topics)
    return [
        Explanation(topic=topic, title=title, text=text) for topic, (title, text) in _TEXTS.items() if topic in wanted
    ]
