"""What the node hears over DIMSE: C-ECHO, C-STORE, and both sides of storage commitment."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from iscl_monai.errors import ConfigRefusal, NotAllowedNow, StoreUnavailable
from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.callers import Callers
from iscl_monai.service.receiving.intake import SOP_CLASSES, Intake, Verdict, is_uid
from iscl_monai.service.receiving.limits import Doors, Seldom
from iscl_monai.service.receiving.network import CarefulAssociation, Server
from iscl_monai.service.receiving.promises import owe, report_of
from iscl_monai.service.receiving.spool import Spool, file_meta
from iscl_monai.service.receiving.syntaxes import NATIVE, readable_syntaxes
from iscl_monai.service.settings import Settings
from iscl_monai.service.tls import server_context

SUCCESS, BUSY, MISMATCH, NO_CLASS, NOT_UNDERSTOOD, FAILURE = 0x0000, 0xA700, 0xA900, 0x0122, 0xC000, 0x0110
WRONG_CALLED, WRONG_CALLING, CONGESTION = (1, 1, 7), (1, 1, 3), (2, 3, 1)  # PS3.8 9.3.4
STORAGE = "1.2.840.10008.5.1.4.1.1."
NAMED = 6  # classes that a line of the list of refusals names

Reported = Callable[[str, list[str], dict[str, str], str], None]


class Receiver:
    """The node's door for peers.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects.
        reported: called with a transaction's UID, the SOP Instance UIDs that a peer has confirmed, and those it has
            not with the reason, and that peer's name; when it raises, the peer is told so, and has to report again.
    """

    def __init__(self, settings: Settings, store: Store, intake: Intake, reported: Reported) -> None:
        self.store = store
        self.intake = intake
        self.reported = reported
        self.node = settings.node
        self.longest_data = settings.node.max_pdu_bytes
        self.patience_s = settings.node.timeout_s
        self.doors = Doors(settings.node.max_associations)
        self._settings = settings
        self._seldom = Seldom()
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigRefusal: the address or port cannot be had, or a certificate is not usable.
        """
        self.ssl_context = server_context(self.node.tls) if self.node.tls else None
        self.callers = Callers(self._settings)
        _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom would format every PDU for a log that nobody reads
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # every fault is told here, without its bytes
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._stored),
            (evt.EVT_N_ACTION, self._asked),
            (evt.EVT_N_EVENT_REPORT, self._told),
        ]
        try:
            ae = self._application_entity()
            place = (self.node.host, self.node.port)
            self._server = Server(ae, place, ae.supported_contexts, handlers, self)
        except OSError as error:
            raise ConfigRefusal(
                f"{self.node.host}:{self.node.port}: {error.strerror or error}",
                allowed="an address of this machine and a port that is free",
                cure="change host or port of [node], or end what listens there",
            ) from error
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Take no more connections, let associations end that do so in time, and abort the others."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        until = time.monotonic() + grace_s
        while self.doors.inside and time.monotonic() < until:
            time.sleep(0.02)
        server.end_all()

    @property
    def alive(self) -> bool:
        """Whether it listens."""
        return self._server is not None and self._thread is not None and self._thread.is_alive()

    def _application_entity(self) -> ApplicationEntity:
        ae = ApplicationEntity(self.node.ae_title)
        ae.maximum_pdu_size = self.node.max_pdu_bytes
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = self.node.timeout_s
        ae.maximum_associations = 10**6  # counted here, where strangers are told from peers
        ae.add_supported_context(Verification, list(NATIVE))
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, readable_syntaxes())
        # Peers ask us (they are SCU) and answer us (they are SCP, and say so by role selection): both may be.
        ae.add_supported_context(StorageCommitmentPushModel, list(NATIVE), scu_role=True, scp_role=True)
        return ae

    # What the network asks: see iscl_monai.service.receiving.network.Desk

    def knock(self, caller: tuple[Any, ...]) -> bool:
        """Whether a connection may say who it is."""
        let_in = self.doors.knock(caller, self.callers.knows(caller[0]))
        if not let_in:
            self._tell_rejected("", caller[0], "too many connections that say nothing")
        return let_in

    def left(self, caller: tuple[Any, ...]) -> None:
        """A connection has ended."""
        self.doors.leave(caller)

    def ended(self, assoc: CarefulAssociation) -> None:
        """An association, or what never became one, has ended."""
        self.doors.leave(assoc.caller)
        if not assoc.is_rejected and assoc.requestor.primitive is not None:
            how = "released" if assoc.is_released else "aborted"
            log.info("association.ended", peer=_title(assoc), address=assoc.caller[0], how=how)

    def spool(self, assoc: Any, context_id: int, named: tuple[str, str]) -> Spool:
        """A place for an object that is coming."""
        context = assoc._accepted_cx[context_id]
        unwanted = None
        if named[0] not in SOP_CLASSES:
            unwanted = Verdict("unsuitable", "SOP Class not supported", *named)
        elif named[0] != context.abstract_syntax:
            unwanted = Verdict("unsuitable", "not the SOP Class of its presentation context", *named, mismatch=True)
        elif not is_uid(named[1]):
            unwanted = Verdict("unsuitable", "Affected SOP Instance UID is no UID (PS3.5 9.1)", *named)
        head = b"" if unwanted else file_meta(*named, context.transfer_syntax[0], _title(assoc))
        return Spool(self.intake.new_part(), head, self.intake.largest_bytes, self.intake.space.refuses, unwanted)

    def too_large(self, assoc: Any, named: tuple[str, str], reason: str) -> None:
        """It was larger than objects may be; the association ends."""
        log.warning("object.too_large", peer=_title(assoc), reason=reason)
        self.intake.list_refusal(_title(assoc), Verdict("unsuitable", reason, *named))

    # What pynetdicom tells

    def _requested(self, event: evt.Event) -> None:
        assoc: Any = event.assoc
        asked = assoc.requestor.primitive
        calling, called, address = asked.calling_ae_title.strip(), asked.called_ae_title.strip(), assoc.caller[0]
        if called != self.node.ae_title.strip():
            self._reject(assoc, calling, WRONG_CALLED, f"it called {called}")
        elif self.callers.peer(calling, address) is None:
            self._reject(assoc, calling, WRONG_CALLING, "no peer of that AE title may send from that address")
        elif not self.doors.enter(assoc.caller):
            self._reject(assoc, calling, CONGESTION, f"more than {self.doors.most} associations")
        else:
            log.info("association.accepted", peer=calling, address=address)

    def _reject(self, assoc: Any, calling: str, how: tuple[int, int, int], reason: str) -> None:
        self._tell_rejected(calling, assoc.caller[0], reason)
        assoc.acse.send_reject(*how)
        assoc.kill()  # returns when it has been sent

    def _tell_rejected(self, calling: str, address: str, reason: str) -> None:
        again = self._seldom.again((calling, address, reason))
        if again is None:
            return
        log.warning("association.rejected", peer=calling, address=address, reason=reason, before=again)
        try:
            with self.store.writing() as change:
                detail = f"{reason}{f'; {again} times more since it was last told' if again else ''}"
                change.note(calling or "unknown", "association rejected", address, detail)
        except StoreUnavailable:
            log.warning("audit.unavailable")

    def _accepted(self, event: evt.Event) -> None:
        """List what was offered and is not taken; a scanner that offers it for each slice is listed once."""
        assoc: Any = event.assoc
        others = [context for context in assoc.rejected_contexts if str(context.abstract_syntax).startswith(STORAGE)]
        offered = sorted({_in_words(context) for context in others})
        if others and self._seldom.again((_title(assoc), *offered)) is not None:
            more = f" and {len(offered) - NAMED} more" if len(offered) > NAMED else ""
            reason = f"offered and not taken: {'; '.join(offered[:NAMED])}{more}"
            self.intake.list_refusal(_title(assoc), Verdict("offered", reason, str(others[0].abstract_syntax)))

    def _stored(self, event: evt.Event) -> Dataset:
        assoc, request = event.assoc, cast(C_STORE, event.request)
        sender, spool = _title(assoc), cast(Any, request._dataset_file)
        named = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        if spool is None:
            refused: Verdict | None = Verdict("unsuitable", "it has no data set", *named)
        elif spool.busy:
            refused = Verdict("busy", spool.busy, *named)
        else:
            refused = spool.unwanted
        if refused is not None:
            self.intake.list_refusal(sender, refused)
        verdict = refused or self.intake.accept(spool.path, sender, announced=named)
        status = status_of(verdict)
        if not verdict.taken:
            log.warning("object.refused", peer=sender, sop_instance_uid=named[1][:64], status=f"{status:04X}")
        return _answer(status, verdict.reason)

    def _asked(self, event: evt.Event) -> tuple[Dataset, None]:
        """Storage commitment is asked of us: success is answered when the debt is on the disk."""
        assoc: Any = event.assoc
        peer = self.callers.peer(_title(assoc), assoc.caller[0])
        try:
            status, reason = owe(self.store, peer, event.request, event.action_information)
        except StoreUnavailable:
            status, reason = FAILURE, "the node cannot store now"
        except Exception as error:  # a data set may be anything
            status, reason = 0x0115, f"not readable ({type(error).__name__})"
        log.info("commitment.asked", peer=_title(assoc), status=f"{status:04X}", reason=reason)
        return _answer(status, reason), None

    def _told(self, event: evt.Event) -> tuple[Dataset, None]:
        """A peer answers our request for storage commitment."""
        try:
            transaction, confirmed, failed = report_of(event.event_information)
        except Exception as error:
            return _answer(0x0115, f"not readable ({type(error).__name__})"), None
        try:
            assoc: Any = event.assoc
            peer = self.callers.peer(_title(assoc), assoc.caller[0])
            self.reported(transaction, confirmed, failed, peer.name if peer else "")
        except Exception as error:  # whatever it is, it has not been noted: the peer has to say it again
            log.warning("commitment.not_noted", peer=_title(event.assoc), error=type(error).__name__)
            told = "unknown transaction" if isinstance(error, NotAllowedNow) else "cannot be noted now"
            return _answer(FAILURE, told), None
        log.info("commitment.told", peer=_title(event.assoc), confirmed=len(confirmed), failed=len(failed))
        return _answer(SUCCESS, ""), None


def status_of(verdict: Verdict) -> int:
    """What C-STORE answers (PS3.4 B.2.3)."""
    if verdict.taken:
        return SUCCESS
    if verdict.kind == "busy":
        return BUSY
    if verdict.mismatch:
        return MISMATCH
    return NOT_UNDERSTOOD if verdict.sop_class_uid in SOP_CLASSES else NO_CLASS


def _answer(status: int, reason: str) -> Dataset:
    answer = Dataset()
    answer.Status = status
    if reason and status != SUCCESS:
        answer.ErrorComment = re.sub(r"[^\x20-\x5b\x5d-\x7e]", "?", reason)[:64].strip()
    return answer


def _title(assoc: Any) -> str:
    return str(assoc.requestor.ae_title).strip()


def _in_words(context: Any) -> str:
    name = UID(context.abstract_syntax).name
    if str(context.abstract_syntax) not in SOP_CLASSES:
        return name
    return f"{name} in {', '.join(UID(syntax).name for syntax in context.transfer_syntax)}"
