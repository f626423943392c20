"""The tags of a received object, read within bounds of time and memory, as it may be anything."""

from __future__ import annotations

import hashlib
import io
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import pydicom
from pydicom.dataelem import RawDataElement
from pydicom.filereader import _read_file_meta_info, read_dataset, read_preamble
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from iscl_monai.dicom.elements import text_of
from iscl_monai.dicom.headers import CT_IMAGE_STORAGE, MULTIFRAME_CT
from iscl_monai.dicom.pixels import without_warnings
from iscl_monai.dicom.syntaxes import readable_syntaxes
from iscl_monai.service.receiving.decoded_size import SHAPE
from iscl_monai.service.receiving.spooled_file import SpooledFile
from iscl_monai.service.rules import MEASURED_TAGS, RULE_TAGS

SOP_CLASSES = (CT_IMAGE_STORAGE, *sorted(MULTIFRAME_CT))
UIDS = ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "SOPClassUID")
ROWS = "Rows"  # an image has it
NO_ELEMENTS = ("sender", *MEASURED_TAGS)  # tags of rules that stand in no object
OF_PATIENT = ("PatientID", "PatientBirthDate")  # read for what is made of them, and kept nowhere
TAGS_READ = [tag for tag in (*UIDS, *RULE_TAGS, *SHAPE, *OF_PATIENT, "StudyDate") if tag not in NO_ELEMENTS]
TAG_OF = {keyword: Tag(keyword) for keyword in TAGS_READ}
LAST_TAG = max(TAG_OF.values())  # what comes behind may be large, and is never read here

# An honest header has some hundred elements and some thousand items of sequences before its Rows. pydicom makes an
# object of each, of a kilobyte and in twenty microseconds, so that a file of eight megabytes could take a minute.
MOST_READS = 100_000
MOST_BYTES = 64 * 2**20
LONGEST_VALUE = 2**16
LONGEST_TEXT = 1024  # that is kept of a tag for rules
INFLATED_HEADER = 16 * 2**20  # bytes of a deflated object in which the tags are looked for


class UnsuitableError(Exception):
    """The object is not suitable for us; carries the reason, and its SOP Class and Instance UID once they are known."""

    mismatch = False
    sop_uids = ("", "")


class MismatchError(UnsuitableError):
    """The object is not the one that the request named."""

    mismatch = True


@dataclass(frozen=True)
class Examined:
    """What was found.

    Args:
        tags: values of ``TAGS_READ`` as text.
        syntax: Transfer Syntax UID.
        begin: offset of the data set in the file.
    """

    tags: dict[str, Any]
    syntax: str
    begin: int


class LimitedReader:
    """A file of which only so much can be read: more than that is no header.

    Args:
        file: to read.
        reads: how often it may be read.
        most_bytes: how much, in all.
    """

    def __init__(self, file: BinaryIO, reads: int = MOST_READS, most_bytes: int = MOST_BYTES) -> None:
        self.tell = file.tell
        self.seek = file.seek
        self._read = file.read
        self._reads = reads
        self._bytes = most_bytes

    def read(self, count: int) -> bytes:
        """So many bytes, or what is left.

        Raises:
            UnsuitableError: that is too much.
        """
        self._reads -= 1
        self._bytes -= count
        if self._reads < 0 or self._bytes < 0 or count < 0:
            raise UnsuitableError("what comes before its Rows is larger than any header")
        return self._read(count)


def is_uid(text: str) -> bool:
    """Whether it has the form of a UID (PS3.5 9.1); leading zeros, which some scanners write, are let pass."""
    return len(text) <= 64 and re.fullmatch(r"\d+(\.\d+)+", text, re.ASCII) is not None


def examine(
    part: Path,
    announced: tuple[str, str] | None,
    study: str | None,
    largest_bytes: int,
    spooled: SpooledFile | None = None,
) -> Examined:
    """The tags we need and the transfer syntax, of a file that may be anything.

    Args:
        part: the file.
        announced: SOP Class and Instance UID that the request named, which the object must bear.
        study: Study Instance UID that the request named, which the object must bear.
        largest_bytes: that a deflated object may inflate to.
        spooled: what is known of the file; None if it came with its File Meta Information.

    Raises:
        UnsuitableError: it is not suitable for us. The reason quotes nothing of the file, which may have a patient's
            name anywhere.
    """
    with without_warnings(), _unreadable_is_unsuitable(), part.open("rb") as file:
        limited = cast(BinaryIO, LimitedReader(file))
        if spooled is None:
            begin, syntax, meta_uid = _read_meta(limited)
        else:
            begin, syntax, meta_uid = file.seek(spooled.begin), spooled.syntax, ""
        if syntax not in readable_syntaxes():
            raise UnsuitableError(f"transfer syntax {_syntax_name(syntax)} cannot be decoded here")
        if syntax == DeflatedExplicitVRLittleEndian:
            limited = cast(BinaryIO, LimitedReader(io.BytesIO(_inflated(file, largest_bytes))))
        tags = _texts(_header(limited, syntax))
    for keyword in UIDS:
        if not is_uid(tags[keyword]):
            found = f"{len(tags[keyword])} characters that are" if tags[keyword] else "absent or empty, which is"
            raise UnsuitableError(f"{keyword} is {found} no UID (PS3.5 9.1)")
    try:
        _check_expected(tags, meta_uid, announced, study)
    except UnsuitableError as reason:
        reason.sop_uids = (tags["SOPClassUID"], tags["SOPInstanceUID"])
        raise
    return Examined(tags, syntax, begin)


def _read_meta(file: BinaryIO) -> tuple[int, str, str]:
    """Offset of the data set, Transfer Syntax UID, and the SOP Instance UID that the File Meta Information names."""
    read_preamble(file, force=False)
    meta = _read_file_meta_info(file)  # no public function leaves the file behind it
    return file.tell(), text_of(meta, "TransferSyntaxUID"), text_of(meta, "MediaStorageSOPInstanceUID")


@contextmanager
def _unreadable_is_unsuitable() -> Iterator[None]:
    try:
        yield
    except UnsuitableError:
        raise
    except Exception as error:  # hostile bytes make pydicom raise nearly anything
        if isinstance(error, OSError) and error.errno:  # the disk's faults are ours; pydicom's have no number
            raise
        raise UnsuitableError(f"not readable as DICOM ({type(error).__name__})") from error


def _syntax_name(syntax: str) -> str:
    return UID(syntax).name if is_uid(syntax) else "that is no UID"


def _header(file: BinaryIO, syntax: str) -> pydicom.Dataset:
    uid = UID(syntax)
    return read_dataset(
        file,
        uid.is_implicit_VR,
        uid.is_little_endian,
        stop_when=_is_after_last_tag,
        defer_size=LONGEST_VALUE,
        specific_tags=list(TAG_OF.values()),
    )


def _is_after_last_tag(tag: BaseTag, vr: str | None, length: int) -> bool:
    return bool(tag > LAST_TAG)


def _texts(dataset: pydicom.Dataset) -> dict[str, Any]:
    """The values; one that is longer than any was left in the file, and a sequence is no value."""
    texts = dict.fromkeys(TAGS_READ, "")
    for keyword, tag in TAG_OF.items():
        element: Any = dataset.get_item(tag, keep_deferred=True)
        if element is None:
            continue
        if not isinstance(element, RawDataElement) or element.VR == "SQ":
            raise UnsuitableError(f"{keyword} is a sequence")
        if element.value is None and element.length:
            raise UnsuitableError(f"{keyword} has {element.length} bytes")
        texts[keyword] = text_of(dataset, keyword)[:LONGEST_TEXT]
    return texts


def _check_expected(tags: dict[str, Any], meta_uid: str, announced: tuple[str, str] | None, study: str | None) -> None:
    """Refuse an object that is not the one the request named, or not one we work with."""
    if announced is not None and announced != (tags["SOPClassUID"], tags["SOPInstanceUID"]):
        raise MismatchError("the object is not the one that the request named")
    if study is not None and study != tags["StudyInstanceUID"]:
        raise MismatchError("the object belongs to another study than the one that the request named")
    if tags["SOPClassUID"] not in SOP_CLASSES:
        raise UnsuitableError(f"SOP Class {UID(tags['SOPClassUID']).name} is no CT image")
    if (meta_uid or tags["SOPInstanceUID"]) != tags["SOPInstanceUID"]:
        raise UnsuitableError("file meta information and data set name different SOP Instance UIDs")
    if not tags[ROWS]:
        raise UnsuitableError("it ends early, or has no Rows")


def _inflated(file: BinaryIO, largest_bytes: int) -> bytes:
    """The beginning of a deflated data set. A file of 1 MB can hold 1 GB, which is counted and dropped."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    head, inflated = io.BytesIO(), 0
    while block := file.read(65536):
        while block and not inflater.eof:
            some = inflater.decompress(block, 2**20)
            block = inflater.unconsumed_tail
            inflated += len(some)
            if inflated > largest_bytes:
                raise UnsuitableError(f"inflates to more than {largest_bytes >> 20} MB")
            if head.tell() < INFLATED_HEADER:
                head.write(some)
    return head.getvalue()


def flush_and_digest(part: Path, found: Examined) -> str:
    """SHA-256 of transfer syntax and data set of a file, whose bytes are on the disk when this returns.

    The File Meta Information is left out: it names the sender, and differs when the same object comes twice.
    """
    digest = hashlib.sha256(found.syntax.encode())
    with part.open("rb") as file:
        file.seek(found.begin)
        while block := file.read(2**20):
            digest.update(block)
        os.fsync(file.fileno())
    return digest.hexdigest()
