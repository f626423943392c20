"""What series are called, for people and as folders: so that each of several can be told from the others."""

from __future__ import annotations

from collections.abc import Sequence

from iscl_monai.dicom.headers import SliceHeader

UNNAMED = "no description"


def title_of(header: SliceHeader) -> str:
    """SeriesDescription, for people."""
    return header.description or UNNAMED


def told_apart(headers: Sequence[SliceHeader]) -> tuple[str, ...]:
    """What is said after the title of each of several series; ``""`` where its title is its own.

    Body part and kernel, and a number where these are the same, too. Folders are not named: reports are passed on, and
    folders may be called after patients.

    Args:
        headers: one of each series.
    """
    titles = [title_of(header) for header in headers]
    made = [_in_words(header) if titles.count(title_of(header)) > 1 else "" for header in headers]
    whole = [title + words for title, words in zip(titles, made, strict=True)]
    return tuple(
        words + (f" no. {whole[: index + 1].count(whole[index])}" if whole.count(whole[index]) > 1 else "")
        for index, words in enumerate(made)
    )


def _in_words(header: SliceHeader) -> str:
    words = ", ".join(filter(None, (header.body_part, " ".join(header.kernel))))
    return f" ({words})" if words else ""


def folder_names(titles: Sequence[str]) -> tuple[str, ...]:
    """Where each series goes within the output: the output itself for one, a folder of its own for each of several."""
    if len(titles) == 1:
        return ("",)
    width = len(str(len(titles)))
    return tuple(f"{index + 1:0{width}d}_{plain_name(title)}" for index, title in enumerate(titles))


def plain_name(text: str) -> str:
    """A text as a file name: letters, digits and underscores, 40 at most."""
    kept = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text)
    return "_".join(part for part in kept.split("_") if part)[:40] or "series"
