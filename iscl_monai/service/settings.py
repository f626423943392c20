"""What an administrator decides: one TOML file, checked as a whole before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from iscl_monai.service.dicom_settings import Node, Peer
from iscl_monai.service.notify_settings import Notify
from iscl_monai.service.rules import Rule, Seconds, Strict
from iscl_monai.service.web_settings import Web


class Disk(Strict):
    """When to stop taking: before the disk is full, so that what was taken can be finished.

    Args:
        reserve_mb: space that must stay free for derived files, the database and the operating system. An object
            that would go below it is refused with 0xA700 (507 for STOW-RS).
        resume_mb: after that, this much must be free again before anything is taken.
    """

    reserve_mb: int = Field(default=2048, ge=1)
    resume_mb: int = Field(default=4096, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Disk:
        if self.resume_mb < self.reserve_mb:
            raise ValueError("resume_mb is less than reserve_mb")
        return self


class Retention(Strict):
    """How long files stay. Rows stay for ever, so that a repeat is recognised.

    Args:
        done_h: hours after a series is done (all derived objects confirmed), or left alone by the rules.
        unfinished_h: hours after it was refused, failed or cancelled; 0 keeps these until a person acts.
        promised_h: hours that objects stay at least for which a peer was promised storage commitment: it may delete
            its own, and the node is no archive.
    """

    done_h: float = Field(default=24, ge=0)
    unfinished_h: float = Field(default=0, ge=0)
    promised_h: float = Field(default=720, ge=0)


class Work(Strict):
    """The denoiser.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        mode: ``ensemble``, ``generator`` or ``extractor``.
        weights: ``trained`` in the bundle, the released ``ensemble`` or ``student``; ``auto``: trained if there.
        runtime: ``torch``, or ``openvino`` on a CPU (extra ``fast``), whose results are other objects.
        batch: slices a GPU takes at once, of whichever series wait; halved when its memory is too small.
        series_at_once: how many series share the model; on a CPU always one.
        threads: slices worked on at the same time on a CPU; 0: one per core.
        attempts: a series whose worker has died so often is failed: it may be what kills it.
    """

    device: str = Field(default="auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    mode: Literal["ensemble", "generator", "extractor"] = "ensemble"
    weights: Literal["auto", "trained", "ensemble", "student"] = "auto"
    runtime: Literal["torch", "openvino"] = "torch"
    batch: int = Field(default=8, ge=1, le=256)
    series_at_once: int = Field(default=4, ge=1, le=64)
    threads: int = Field(default=0, ge=0)
    attempts: int = Field(default=3, ge=1)

    @property
    def weights_size(self) -> str | None:
        """As :func:`iscl_monai.released.weights_in` takes it."""
        return None if self.weights == "auto" else self.weights


class Sending(Strict):
    """How deliveries are repeated.

    Args:
        first_wait_s: after the first failure; doubled after each further one.
        longest_wait_s: between two tries.
        tries: a delivery that failed so often is ``failed``, and waits for a person.
        refused_tries: the same, of a peer that answers and refuses the object.
    """

    first_wait_s: Seconds = 5
    longest_wait_s: Seconds = 300
    tries: int = Field(default=1000, ge=1)  # about three days of a PACS that is down
    refused_tries: int = Field(default=5, ge=1)


class Settings(Strict):
    """All settings; see ``deploy/node.toml`` for an example with every setting.

    Args:
        data: folder for files and the database; on a local disk.
        bundle: folder of the trained bundle.
        sweep_every_s: how often peers with ``sweep`` are searched.
        echo_every_s: how often each peer is asked whether it answers.
    """

    data: Path
    bundle: Path
    node: Node = Node()
    peers: tuple[Peer, ...] = ()
    rules: tuple[Rule, ...] = ()
    disk: Disk = Disk()
    retention: Retention = Retention()
    work: Work = Work()
    sending: Sending = Sending()
    web: Web = Web()
    notify: Notify = Notify()
    sweep_every_s: Seconds = 900
    echo_every_s: Seconds = 300

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        names = [peer.name for peer in self.peers]
        titles = [peer.ae_title for peer in self.peers if peer.ae_title]
        for kind, listed in (("peers", names), ("AE titles", titles), ("rules", [rule.name for rule in self.rules])):
            twice = sorted({one for one in listed if listed.count(one) > 1})
            if twice:
                raise ValueError(f"two {kind} are called {', '.join(twice)}")
        receiving = {peer.name for peer in self.peers if peer.can_receive}
        for rule in self.rules:
            unknown = sorted(set(rule.send_to) - receiving)
            if unknown:
                raise ValueError(
                    f"rule {rule.name} sends to {', '.join(unknown)}, which is no peer with a port or url "
                    f"({', '.join(sorted(receiving)) or 'there is none'})"
                )
        if not self.rules:
            raise ValueError("there are no rules: nothing would be denoised")
        secured = [peer.name for peer in self.peers if peer.tls]
        if secured and self.node.tls is None:
            raise ValueError(f"peer {secured[0]} wants TLS, which needs [node.tls]")
        return self

    def peer(self, name: str) -> Peer | None:
        """The peer of that name."""
        return next((peer for peer in self.peers if peer.name == name), None)

    def rule(self, name: str) -> Rule | None:
        """The rule of that name."""
        return next((rule for rule in self.rules if rule.name == name), None)
