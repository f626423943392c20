"""Files that were not denoised, grouped by reason, without the names of patients."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from iscl_monai.report.numbers import counted
from iscl_monai.report.section import Section, Table

MOST_REASONS = 30
MOST_NAMES = 3


def skipped_section(skipped: Sequence[tuple[str, str]]) -> Section | None:
    """Files that were not denoised, by reason, most frequent first; None when there is none.

    Args:
        skipped: file and reason, maybe thousands.
    """
    if not skipped:
        return None
    groups = sorted(_grouped(skipped).items(), key=lambda group: -len(group[1]))
    lines = [_line(reason, names) for reason, names in groups[:MOST_REASONS]]
    rest = [name for _, names in groups[MOST_REASONS:] for name in names]
    if rest:
        lines.append(_line(f"{len(groups) - MOST_REASONS} other reasons", rest))
    table = Table(heads=["Files", "Reason", "Such as"], lines=lines, words=(1, 2), row_names=False)
    return Section(title="Not denoised", intro=f"{counted(len(skipped), 'file')} skipped.", table=table)


def _line(reason: str, names: Sequence[str]) -> list[str]:
    examples = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    return [str(len(names)), reason, examples]


def _grouped(skipped: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """The names of files for each reason."""
    folders = {_folder_and_name(file)[0] for file, _ in skipped}
    longest_first = sorted((folder for folder in folders if len(folder) > 1), key=len, reverse=True)
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for file, reason in skipped:
        groups[_without_names(file, reason, longest_first)].append(_folder_and_name(file)[1])
    return groups


def _folder_and_name(file: str) -> tuple[str, str]:
    """Folder with its last separator, and name: folders are often called after patients."""
    last = max(file.rfind("/"), file.rfind("\\")) + 1
    return file[:last], file[last:]


def _without_names(file: str, reason: str, folders: Sequence[str]) -> str:
    """The reason without paths and patients: so one reason makes one group, and nobody's name is shown."""
    reason = reason.removeprefix(f"{file}: ")
    if _folder_and_name(file)[0]:
        reason = reason.replace(file, "the file")
    if "/" in reason or "\\" in reason:
        for folder in folders:
            reason = re.sub(rf"(?<![\w/\\]){re.escape(folder)}", "", reason)
    return re.sub(r"\b(Patient\w+) is .*?(?=; do: |$)", r"\1 is (not shown here)", reason)
