"""What is taken from a patient's data before they are forgotten: the age; and descriptions without their number."""

from __future__ import annotations

import re
from datetime import date

FREE_TEXTS = ("SeriesDescription", "StudyDescription", "ProtocolName")  # in which people write anything
HIDDEN = "***"
SHORTEST_HIDDEN = 3  # letters of a number; a shorter one stands in too many descriptions
DAYS = {"D": 1.0, "W": 7.0, "M": 30.436875, "Y": 365.2425}


def age_years(age: str, birth_date: str, study_date: str) -> str:
    """The age in years, for rules; "" if it is not known.

    Args:
        age: Patient's Age, e.g. ``045Y`` (PS3.5 6.2, AS).
        birth_date: Patient's Birth Date, of which the age at the study is reckoned if there is no other.
        study_date: Study Date.
    """
    found = re.fullmatch(r"(\d{1,3})([DWMY])", age.strip())
    if found:
        return f"{int(found[1]) * DAYS[found[2]] / DAYS['Y']:.4g}"
    born, studied = _date(birth_date), _date(study_date)
    if born is None or studied is None or studied < born:
        return ""
    return f"{int((studied - born).days / DAYS['Y'] + 0.001)}"


def _date(text: str) -> date | None:
    try:
        return date(int(text[:4]), int(text[4:6]), int(text[6:8])) if re.fullmatch(r"\d{8}", text) else None
    except ValueError:
        return None


def without_number(text: str, patient_id: str) -> str:
    """A description in which the patient's number is hidden, with or without its leading zeros."""
    numbers = {patient_id.strip(), patient_id.strip().lstrip("0")}
    for number in sorted((one for one in numbers if len(one) >= SHORTEST_HIDDEN), key=len, reverse=True):
        text = re.sub(rf"(?<![0-9A-Za-z]){re.escape(number)}(?![0-9A-Za-z])", HIDDEN, text, flags=re.IGNORECASE)
    return text
