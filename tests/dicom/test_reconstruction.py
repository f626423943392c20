"""What vendors write about iterative reconstruction, and what only looks like it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dicom.synthetic import Series
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from real_data import real

from iscl_monai.dicom.enhanced import open_enhanced
from iscl_monai.dicom.headers import header_of, read_header
from tests.dicom.multiframe import Enhanced

GE, SIEMENS, PHILIPS, TOSHIBA, CANON = "GE MEDICAL SYSTEMS", "SIEMENS", "Philips", "TOSHIBA", "Canon Medical Systems"


def found(**elements: Any) -> str:
    dataset = Dataset()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return header_of(Path("slice"), dataset).reconstruction


def ge(annotation: str, mode: str, configuration: str, level: str) -> Dataset:
    dataset = Dataset()
    dataset.Manufacturer = GE
    block = dataset.private_block(0x0053, "GEHC_CT_ADVAPP_001", create=True)
    for element, (vr, value) in enumerate(
        (("SH", annotation), ("SH", mode), ("LO", configuration), ("SH", level)), start=0x40
    ):
        block.add_new(element, vr, value)
    return dataset


@pytest.mark.parametrize(
    ("elements", "name"),
    [
        (("SS50", "Slice", "SS50:Slice", "50"), "ASiR 50"),
        (("VS40", "Volume", "VS40:Volume", "40"), "ASiR 40"),
        (("AR30", "Slice", "AR30", "30"), "ASiR-V 30"),
        (("", "Slice", "AR30", "30"), "ASiR-V 30"),
        (("TF-H", "", "TrueFidelity-H", "H"), "TrueFidelity h"),
        (("DLIR-M", "", "", ""), "TrueFidelity m"),
        (("Veo", "", "", ""), "Veo"),
        (("", "", "", "60"), "iterative 60"),
        (("XX20", "", "", "20"), "iterative 20"),
        (("SS0", "Slice", "SS0:Slice", "0"), ""),
        (("", "Slice", "", "0"), ""),
        (("", "", "", ""), ""),
    ],
)
def test_ge_writes_private_elements(elements: tuple[str, str, str, str], name: str) -> None:
    assert header_of(Path("slice"), ge(*elements)).reconstruction == name


def test_what_ge_writes_of_the_series_outweighs_its_protocol() -> None:
    dataset = ge("", "", "", "0")
    dataset.ProtocolName = "ABDOMEN ASIR 40"
    assert header_of(Path("slice"), dataset).reconstruction == ""


@pytest.mark.parametrize(("level", "name"), [(4, "iDose 4"), (0, ""), ("", "")])
def test_philips_writes_the_level_of_idose(level: Any, name: str) -> None:
    dataset = Dataset()
    dataset.Manufacturer, dataset.ProtocolName = PHILIPS, "Chest iDose (3)" if level == 0 else "Chest"
    dataset.private_block(0x01F7, "ELSCINT1", create=True).add_new(0x9B, "IS", level)
    assert header_of(Path("slice"), dataset).reconstruction == name


@pytest.mark.parametrize(
    ("text", "name"),
    [("AIDR 3D STD", "AIDR 3D std"), ("FIRST BODY MILD", "FIRST mild"), ("FIRST", "FIRST"), ("ORG", ""), ("QDS+", "")],
)
def test_canon_writes_its_filter(text: str, name: str) -> None:
    dataset = Dataset()
    dataset.Manufacturer = TOSHIBA
    dataset.private_block(0x7005, "TOSHIBA_MEC_CT3", create=True).add_new(0x0B, "SH", text)
    assert header_of(Path("slice"), dataset).reconstruction == name


def test_elements_of_another_creator_say_nothing() -> None:
    dataset = Dataset()
    dataset.Manufacturer = GE
    dataset.private_block(0x0053, "SOMEBODY", create=True).add_new(0x40, "SH", "SS50")
    assert header_of(Path("slice"), dataset).reconstruction == ""


@pytest.mark.parametrize(
    ("kernel", "elements", "name"),
    [
        (["I30f", "3"], {}, "SAFIRE 3"),
        ("I30f", {}, "SAFIRE"),
        (["J30s", "2"], {}, "SAFIRE 2"),
        ("Q30f", {}, "SAFIRE"),
        ("I26f", {"SeriesDescription": "Abd IRIS 3.0"}, "IRIS"),
        (["Br38f", "3"], {}, "SAFIRE or ADMIRE 3"),
        (["Br40d", "4"], {"SeriesDescription": "Abd ADMIRE"}, "ADMIRE 4"),
        (["Br40u", "3"], {"ManufacturerModelName": "NAEOTOM Alpha"}, "QIR 3"),
        ("Br40", {"SeriesDescription": "Thorax 1.00 Br40 S3"}, "SAFIRE 3"),
        ("Bl57", {"SeriesDescription": "Thorax 1.00 Bl57 Q4"}, "QIR 4"),
        # Filtered backprojection, or nothing is said.
        ("B30f", {}, ""),
        ("D30f", {}, ""),
        ("H31s", {}, ""),
        ("Br38f", {}, ""),
        ("Qr40", {}, ""),
        ("Br40", {"SeriesDescription": "Topogram S3"}, ""),
        (["Br38f", "0"], {}, ""),
        ("59 .21.B50s", {}, ""),
    ],
)
def test_siemens_writes_it_into_the_kernel(kernel: Any, elements: dict[str, str], name: str) -> None:
    assert found(Manufacturer=SIEMENS, ConvolutionKernel=kernel, **elements) == name


def test_a_kernel_letter_says_nothing_of_other_makers() -> None:
    for maker in (GE, TOSHIBA, PHILIPS, "Nobody"):
        for kernel in ("I30f", ["Br38f", "3"]):
            assert found(Manufacturer=maker, ConvolutionKernel=kernel) == ""


@pytest.mark.parametrize(
    ("maker", "text", "name"),
    [
        (GE, "Abd ASIR 40", "ASiR 40"),
        (GE, "2.5MM ASiR-V50%", "ASiR-V 50"),
        (GE, "axial_asir_30", "ASiR 30"),
        (GE, "TrueFidelity High", "TrueFidelity high"),
        (GE, "STND DLIR-M", "TrueFidelity m"),
        (GE, "MBIR lung", "Veo"),
        (SIEMENS, "Abd SAFIRE 3", "SAFIRE 3"),
        ("", "Abd ADMIRE strength 3", "ADMIRE 3"),
        (PHILIPS, "1.0 x 0.5, iDose (3)", "iDose 3"),
        (PHILIPS, "iDose4 Level 5", "iDose 5"),
        (PHILIPS, "Body IMR 1", "IMR 1"),
        (TOSHIBA, "Body 1.0 CE AIDR3D STRONG", "AIDR 3D strong"),
        (CANON, "AiCE Body Sharp Mild", "AiCE"),
        (CANON, "AiCE Body Mild", "AiCE mild"),
        (CANON, "FIRST Cardiac STD", "FIRST std"),
        ("", "iterative reconstruction", "iterative"),
        # None of it.
        (GE, "5.2 CHEST/ABD/PEL (FEET FIRST)", ""),
        (CANON, "FEET FIRST", ""),
        (CANON, "first pass perfusion", ""),
        (GE, "ASIR 0%", ""),
        (GE, "no ASIR", ""),
        (GE, "ASIR off", ""),
        (GE, "desire 30", ""),
        (GE, "ADMIRE trial", ""),
        (PHILIPS, "low dose chest", ""),
        (SIEMENS, "sapphire 3", ""),
        (GE, "MR imrt planning", ""),
        (GE, "Abd FBP", ""),
        ("", "video", ""),
    ],
)
def test_names_are_found_in_texts(maker: str, text: str, name: str) -> None:
    for keyword in ("SeriesDescription", "ProtocolName", "ConvolutionKernel")[: 3 if len(text) <= 16 else 2]:
        assert found(Manufacturer=maker, **{keyword: text}) == name


def test_the_series_outweighs_the_protocol() -> None:
    assert found(Manufacturer=SIEMENS, SeriesDescription="Abd 3.0 WFBP", ProtocolName="Abd SAFIRE 3") == ""
    assert found(Manufacturer=GE, SeriesDescription="ASIR 30", ProtocolName="Abd ASIR 50") == "ASiR 30"


@pytest.mark.parametrize(("algorithm", "name"), [("ITERATIVE", "iterative"), ("FILTER_BACK_PROJ", ""), ("", "")])
def test_the_standard_has_an_element_for_it(algorithm: str, name: str) -> None:
    assert found(ReconstructionAlgorithm=algorithm) == name


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_it_is_read_from_files(tmp_path: Path, syntax: str) -> None:
    def change(dataset: FileDataset, index: int) -> None:
        for element in ge("SS50", "Slice", "SS50:Slice", "50"):
            dataset.add(element)
        dataset.file_meta.TransferSyntaxUID = syntax

    path = Series(slots=[0], change=change).write(tmp_path)[0]
    assert read_header(path).reconstruction == "ASiR 50"


def test_frames_of_an_enhanced_image_have_it(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        item = Dataset()
        item.ReconstructionAlgorithm, item.ConvolutionKernel = "ITERATIVE", "Br40"
        dataset.SharedFunctionalGroupsSequence[0].CTReconstructionSequence = [item]

    path = Enhanced(change=change).write(tmp_path / "enhanced.dcm")
    assert {header.reconstruction for header in open_enhanced(path).frame_headers} == {"iterative"}


def test_real_scans() -> None:
    folders = {
        "test/totalsegmentator_abdomen": {"SAFIRE or ADMIRE 3"},
        "train/cptac_pda_c3l_00189": {"ASiR-V 30"},
        "train/lidc_idri_0001": {""},
        "train/lidc_idri_0314": {""},
        "train/tcia_single_slices": {""},
        "test/covid19_ny_sbu_6_patients": {"ASiR 30", "ASiR 50", "AIDR 3D std"},
    }
    for folder, names in folders.items():
        files = [path for path in real(folder).rglob("*") if path.suffix == ".dcm" or path.name.startswith("CT.")]
        assert {read_header(path).reconstruction for path in files} == names, folder
