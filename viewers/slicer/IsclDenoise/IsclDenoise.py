"""A scripted module of 3D Slicer: denoise the CT volume that is loaded with the installed ``iscl-monai``.

Slicer's own Python needs nothing of this project: the volume goes as NIfTI to the command, which runs in the
environment it was installed in, and what it writes comes back as a new volume beside the original.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

DISCLAIMER = "AI-processed, derived, not for primary diagnosis"
SETTING = "IsclDenoise/Command"
LARGEST_SHIFT = 1e-3
"""Of any element of the matrix of voxels, mm: NIfTI keeps it in single precision."""


class IsclDenoise(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "ISCL low-dose CT denoising"
        parent.categories = ["Filtering"]
        parent.dependencies = []
        parent.contributors = ["iscl_monai contributors"]
        parent.helpText = f"Denoises a CT volume with iscl-monai, installed beside Slicer. {DISCLAIMER}."
        parent.acknowledgementText = "K. Lee and W.-K. Jeong, IEEE TMI 40(11), 2021."


class IsclDenoiseWidget(ScriptedLoadableModuleWidget):
    """The panel: which volume, how strongly, which command, and a button."""

    def setup(self) -> None:
        """Build the panel."""
        super().setup()
        self.logic = IsclDenoiseLogic()
        form = qt.QFormLayout()
        self.selector = slicer.qMRMLNodeComboBox()
        self.selector.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.selector.addEnabled = self.selector.removeEnabled = False
        self.selector.setMRMLScene(slicer.mrmlScene)
        self.strength = qt.QDoubleSpinBox()
        self.strength.setRange(0.0, 1.0)
        self.strength.setSingleStep(0.1)
        self.strength.value = 1.0
        self.command = qt.QLineEdit()
        self.command.text = str(qt.QSettings().value(SETTING) or found_command())
        self.button = qt.QPushButton("Denoise")
        self.message = qt.QLabel(DISCLAIMER)
        for name, widget in (("CT volume", self.selector), ("Strength", self.strength), ("Command", self.command)):
            form.addRow(name, widget)
        form.addRow(self.button)
        form.addRow(self.message)
        self.layout.addLayout(form)
        self.button.connect("clicked(bool)", self.on_denoise)

    def on_denoise(self, *_: Any) -> None:
        """Denoise what is chosen, or say why not."""
        node = self.selector.currentNode()
        if node is None:
            self.message.text = "Choose a CT volume first."
            return
        qt.QSettings().setValue(SETTING, self.command.text)
        self.message.text = "Denoising ..."
        slicer.app.processEvents()
        try:
            made = self.logic.denoise(node, command=self.command.text, strength=float(self.strength.value))
        except RuntimeError as error:
            self.message.text = str(error)
            return
        slicer.util.setSliceViewerLayers(background=made, foreground=node, foregroundOpacity=0.0)
        self.message.text = f"{made.GetName()}: {DISCLAIMER}. The foreground slider fades to the original."


class IsclDenoiseLogic(ScriptedLoadableModuleLogic):
    """What the button does; also for scripts: ``IsclDenoiseLogic().denoise(node)``."""

    def denoise(
        self,
        node: Any,
        *,
        command: str = "",
        strength: float = 1.0,
        run: Callable[..., Any] = subprocess.run,
    ) -> Any:
        """Denoise a volume.

        Args:
            node: a scalar volume in Hounsfield units.
            command: path of ``iscl-monai``; empty: the one on the PATH.
            strength: share of the change that is applied, 0 to 1.
            run: starts the command; as ``subprocess.run``.

        Returns:
            A new volume node, ``<name> denoised``, of the same geometry.

        Raises:
            RuntimeError: no such command, a volume that it refuses, or one that came back with another geometry; in a
                sentence.
        """
        program = command or found_command()
        if not program:
            raise RuntimeError("iscl-monai was not found; install it (pip install iscl-monai) and give its path.")
        with tempfile.TemporaryDirectory() as name:
            before, after = Path(name) / "volume.nii.gz", Path(name) / "denoised.nii.gz"
            if not slicer.util.saveNode(node, str(before)):
                raise RuntimeError(f"{node.GetName()} could not be written to {before}.")
            words = [program, "denoise", str(before), str(after), "--strength", f"{strength:g}"]
            try:
                done = run(words, capture_output=True, text=True, check=False, env=outer_environment())
            except OSError as error:
                raise RuntimeError(f"{program} does not start: {error}") from error
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines()
                raise RuntimeError(lines[-1] if lines else f"{program} ended with {done.returncode}.")
            made = slicer.util.loadVolume(str(after), {"name": f"{node.GetName()} denoised"})
        check_geometry(node, made)
        return made


def check_geometry(node: Any, made: Any) -> None:
    """Refuse a volume that does not lie where the original lies.

    Raises:
        RuntimeError: another size or place.
    """
    before, after = vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(before)
    made.GetIJKToRASMatrix(after)
    apart = max(abs(before.GetElement(i, j) - after.GetElement(i, j)) for i in range(4) for j in range(4))
    size, size_made = node.GetImageData().GetDimensions(), made.GetImageData().GetDimensions()
    if apart > LARGEST_SHIFT or size != size_made:
        slicer.mrmlScene.RemoveNode(made)
        raise RuntimeError(f"The answer has another geometry ({size_made} for {size}); it was removed.")


def found_command() -> str:
    """Where ``iscl-monai`` lies, or an empty text."""
    return shutil.which("iscl-monai") or ""


def outer_environment() -> dict[str, str]:
    """The environment that Slicer itself was started in: its own has its own Python and libraries."""
    environment = dict(slicer.util.startupEnvironment())
    for name in ("PYTHONHOME", "PYTHONPATH", "PYTHONNOUSERSITE"):
        environment.pop(name, None)
    return environment
