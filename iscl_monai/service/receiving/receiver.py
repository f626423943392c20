"""The node as SCP: C-ECHO, C-STORE, and both sides of storage commitment."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, cast

from pydicom.dataset import Dataset
from pynetdicom import _config, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from iscl_monai.dicom.syntaxes import NATIVE, readable_syntaxes
from iscl_monai.errors import NotAllowedNow, StoreUnavailable
from iscl_monai.service.database.store import Store
from iscl_monai.service.log import log
from iscl_monai.service.receiving.callers import Callers
from iscl_monai.service.receiving.commitment_requests import note_request, read_report
from iscl_monai.service.receiving.intake import SOP_CLASSES, Intake, Verdict, is_uid
from iscl_monai.service.receiving.limits import ASSOCIATE_WITHIN_S, RepeatFilter
from iscl_monai.service.receiving.network import AssociationServer, LimitedAssociation, port_refusal
from iscl_monai.service.receiving.places import Places
from iscl_monai.service.receiving.responses import (
    FAILURE,
    INVALID_ARGUMENT,
    RESOURCE_LIMITATION,
    SUCCESS,
    describe_context,
    response_of,
    status_of,
)
from iscl_monai.service.receiving.spool import Spool, file_meta
from iscl_monai.service.settings import Settings
from iscl_monai.service.tls import server_context

WRONG_CALLED, WRONG_CALLING, CONGESTION = (1, 1, 7), (1, 1, 3), (2, 3, 1)  # PS3.8 9.3.4
STORAGE_SOP_CLASSES = "1.2.840.10008.5.1.4.1.1."
MOST_NAMED = 6  # SOP Classes that a line of the list of refusals names

RecordReport = Callable[[str, list[str], dict[str, str], str], None]


class Receiver:
    """Listens for peers, and handles their requests.

    Args:
        settings: of the node.
        store: the database.
        intake: takes objects.
        record_report: called with a Transaction UID, the SOP Instance UIDs that a peer has confirmed, those it has
            not with the reason, and that peer's name; when it raises, the peer gets a failure, and has to report again.
    """

    def __init__(self, settings: Settings, store: Store, intake: Intake, record_report: RecordReport) -> None:
        self.store = store
        self.intake = intake
        self.record_report = record_report
        self.node = settings.node
        self.longest_data = settings.node.max_pdu_bytes
        self.pdu_timeout_s = settings.node.timeout_s
        self.associate_within_s = min(ASSOCIATE_WITHIN_S, self.pdu_timeout_s)
        callers = [peer.name for peer in settings.peers if peer.ae_title and peer.may_send]
        self.connections = Places(settings.node.max_associations, callers, useless_s=settings.node.timeout_s)
        self._settings = settings
        self._repeats = RepeatFilter()
        self._server: AssociationServer | None = None
        self._thread: threading.Thread | None = None

    def check_port(self) -> None:
        """Find out whether :meth:`start` would have its port, without listening.

        Raises:
            ConfigRefusal: the address or port cannot be had.
        """
        with port_refusal(self.node.host, self.node.port), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((self.node.host, self.node.port))

    def start(self) -> None:
        """Listen.

        Raises:
            ConfigRefusal: the address or port cannot be had, or a certificate is not usable.
        """
        self.ssl_context = server_context(self.node.tls) if self.node.tls else None
        self.callers = Callers(self._settings)
        _config.LOG_HANDLER_LEVEL = "none"  # pynetdicom would format every PDU for its log
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)  # every fault is logged here, without its bytes
        handlers = [
            (evt.EVT_REQUESTED, self._handle_association_requested),
            (evt.EVT_ACCEPTED, self._handle_association_accepted),
            (evt.EVT_C_ECHO, lambda _: SUCCESS),
            (evt.EVT_C_STORE, self._handle_c_store),
            (evt.EVT_N_ACTION, self._handle_n_action),
            (evt.EVT_N_EVENT_REPORT, self._handle_n_event_report),
        ]
        with port_refusal(self.node.host, self.node.port):
            ae = self._application_entity()
            address = (self.node.host, self.node.port)
            self._server = AssociationServer(ae, address, ae.supported_contexts, handlers, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float = 10.0) -> None:
        """Take no more connections, let associations end that do so in time, and abort the others."""
        server, self._server = self._server, None
        if server is None:
            return
        server.shutdown()
        until = time.monotonic() + grace_s
        while self.connections.associations and time.monotonic() < until:
            time.sleep(0.02)
        server.end_all()

    @property
    def alive(self) -> bool:
        """Whether it listens."""
        return self._server is not None and self._thread is not None and self._thread.is_alive()

    def _application_entity(self) -> ApplicationEntity:
        ae = ApplicationEntity(self.node.ae_title)
        ae.maximum_pdu_size = self.node.max_pdu_bytes
        ae.acse_timeout = self.associate_within_s
        ae.dimse_timeout = ae.network_timeout = self.node.timeout_s
        ae.maximum_associations = 10**6  # counted by Places, which tells unknown callers from peers
        ae.add_supported_context(Verification, list(NATIVE))
        for sop_class in SOP_CLASSES:
            ae.add_supported_context(sop_class, readable_syntaxes())
        # Peers request commitments (as SCU), and report ours (as SCP, by role selection): both are accepted.
        ae.add_supported_context(StorageCommitmentPushModel, list(NATIVE), scu_role=True, scp_role=True)
        return ae

    # Called by the network: iscl_monai.service.receiving.network.ConnectionHandler

    def admit_connection(self, caller: tuple[Any, ...]) -> None:
        """A connection has come, and may send its A-ASSOCIATE-RQ; another one that says nothing may have to end."""
        known = self.callers.knows_address(caller[0])
        self._end(self.connections.admit_connection(caller, caller[0], known), "too many connections that say nothing")

    def connection_ended(self, caller: tuple[Any, ...]) -> None:
        """A connection has ended without an association."""
        self.connections.release(caller)
        if self._server is not None:
            self._server.forget(caller)

    def record_use(self, assoc: Any) -> None:
        """An association has brought something."""
        self.connections.record_use(assoc.caller)

    def association_ended(self, assoc: LimitedAssociation) -> None:
        """An association, or what never became one, has ended."""
        self.connection_ended(assoc.caller)
        if not assoc.is_rejected and assoc.requestor.primitive is not None:
            how = "released" if assoc.is_released else "aborted"
            log.info("association.ended", peer=_calling_ae_title(assoc), address=assoc.caller[0], how=how)

    def spool(self, assoc: Any, context_id: int, sop_uids: tuple[str, str]) -> Spool:
        """A place for an object that is coming, by the SOP Class and Instance UID of its request."""
        context = assoc._accepted_cx[context_id]
        rejected = None
        if sop_uids[0] not in SOP_CLASSES:
            rejected = Verdict("unsuitable", "SOP Class not supported", *sop_uids)
        elif sop_uids[0] != context.abstract_syntax:
            rejected = Verdict("unsuitable", "not the SOP Class of its presentation context", *sop_uids, mismatch=True)
        elif not is_uid(sop_uids[1]):
            rejected = Verdict("unsuitable", "Affected SOP Instance UID is no UID (PS3.5 9.1)", *sop_uids)
        syntax = str(context.transfer_syntax[0])
        head = b"" if rejected else file_meta(*sop_uids, syntax, _calling_ae_title(assoc))
        intake = self.intake
        return Spool(intake.new_part(), head, syntax, intake.largest_bytes, intake.space.no_room_reason, rejected)

    def too_large(self, assoc: Any, sop_uids: tuple[str, str], reason: str) -> None:
        """An object was larger than objects may be; the association ends."""
        log.warning("object.too_large", peer=_calling_ae_title(assoc), reason=reason)
        self.intake.record_refusal(_calling_ae_title(assoc), Verdict("unsuitable", reason, *sop_uids))

    # Called by pynetdicom

    def _handle_association_requested(self, event: evt.Event) -> None:
        assoc: Any = event.assoc
        request, address = assoc.requestor.primitive, assoc.caller[0]
        calling, called = request.calling_ae_title.strip(), request.called_ae_title.strip()
        if called != self.node.ae_title.strip():
            self._reject(assoc, calling, WRONG_CALLED, f"it called {called}")
            return
        peer = self.callers.peer(calling, address)
        if peer is None:
            self._reject(assoc, calling, WRONG_CALLING, "no peer of that AE title may send from that address")
            return
        admitted, useless = self.connections.admit_association(assoc.caller, peer.name)
        if not admitted:
            self._reject(assoc, calling, CONGESTION, f"no place is left of {self.connections.most} associations")
            return
        self._end(useless, "its association brought nothing for long, and another one needs its place")
        log.info("association.accepted", peer=calling, address=address)

    def _end(self, caller: Any, reason: str) -> None:
        """End a connection that has to make room."""
        server = self._server
        if caller is not None and server is not None:
            server.end_connection(caller)
            # not in this thread, which accepts connections: a locked database would keep everybody waiting
            threading.Thread(target=self._record_rejection, args=("", caller[0], reason), daemon=True).start()

    def _reject(self, assoc: Any, calling: str, result_source_reason: tuple[int, int, int], reason: str) -> None:
        self._record_rejection(calling, assoc.caller[0], reason)
        assoc.acse.send_reject(*result_source_reason)
        assoc.kill()  # returns when it has been sent

    def _record_rejection(self, calling: str, address: str, reason: str) -> None:
        known = self.callers.peer(calling, address) is not None  # what strangers invent silences no peer
        group = calling if known else address
        unrecorded = self._repeats.unrecorded((calling, address, reason), group, known=known)
        if unrecorded is None:
            return
        log.warning("association.rejected", peer=calling, address=address, reason=reason, before=unrecorded)
        try:
            with self.store.writing() as change:
                detail = reason + (f"; {unrecorded} times more since it was last told" if unrecorded else "")
                change.note(calling or "unknown", "association rejected", address, detail)
        except StoreUnavailable:
            log.warning("audit.unavailable")

    def _handle_association_accepted(self, event: evt.Event) -> None:
        """Record what was proposed and not accepted; a scanner that proposes it for each slice is recorded once."""
        assoc: Any = event.assoc
        others = [
            context
            for context in assoc.rejected_contexts
            if str(context.abstract_syntax).startswith(STORAGE_SOP_CLASSES)
        ]
        offered = sorted({describe_context(context) for context in others})
        if others and self._repeats.unrecorded(tuple(offered), _calling_ae_title(assoc), known=True) is not None:
            more = f" and {len(offered) - MOST_NAMED} more" if len(offered) > MOST_NAMED else ""
            reason = f"offered and not taken: {'; '.join(offered[:MOST_NAMED])}{more}"
            offer = Verdict("offered", reason, str(others[0].abstract_syntax))
            self.intake.record_refusal(_calling_ae_title(assoc), offer)

    def _handle_c_store(self, event: evt.Event) -> Dataset | int:
        assoc, request = event.assoc, cast(C_STORE, event.request)
        sender, spool = _calling_ae_title(assoc), cast(Any, request._dataset_file)
        sop_uids = (str(request.AffectedSOPClassUID), str(request.AffectedSOPInstanceUID))
        if spool is None:
            rejected: Verdict | None = Verdict("unsuitable", "it has no data set", *sop_uids)
        elif spool.busy:
            rejected = Verdict("busy", spool.busy, *sop_uids)
        else:
            rejected = spool.rejected
        if rejected is not None:
            self.intake.record_refusal(sender, rejected)
        verdict = rejected or self.intake.accept(spool.path, sender, announced=sop_uids, spooled=spool.spooled)
        status = status_of(verdict)
        if verdict.taken:
            return status
        log.warning("object.refused", peer=sender, sop_instance_uid=sop_uids[1][:64], status=f"{status:04X}")
        return response_of(status, verdict.reason)

    def _handle_n_action(self, event: evt.Event) -> tuple[Dataset, None]:
        """A peer requests storage commitment: success is answered when the request is on the disk."""
        assoc: Any = event.assoc
        peer = self.callers.peer(_calling_ae_title(assoc), assoc.caller[0])
        no_room = self.intake.space.no_room_reason()
        try:
            if no_room:
                status, reason = RESOURCE_LIMITATION, no_room
            else:
                status, reason = note_request(self.store, peer, event.request, event.action_information)
        except StoreUnavailable:
            status, reason = FAILURE, "the node cannot store now"
        except Exception as error:  # a data set may be anything
            status, reason = INVALID_ARGUMENT, f"not readable ({type(error).__name__})"
        log.info("commitment.asked", peer=_calling_ae_title(assoc), status=f"{status:04X}", reason=reason)
        return response_of(status, reason), None

    def _handle_n_event_report(self, event: evt.Event) -> tuple[Dataset, None]:
        """A peer reports on a commitment that we requested."""
        try:
            transaction_uid, confirmed, failed = read_report(event.event_information)
        except Exception as error:
            return response_of(INVALID_ARGUMENT, f"not readable ({type(error).__name__})"), None
        try:
            assoc: Any = event.assoc
            peer = self.callers.peer(_calling_ae_title(assoc), assoc.caller[0])
            self.record_report(transaction_uid, confirmed, failed, peer.name if peer else "")
        except Exception as error:  # whatever it is, the report has not been recorded: the peer has to send it again
            log.warning("commitment.not_noted", peer=_calling_ae_title(event.assoc), error=type(error).__name__)
            reason = "unknown transaction" if isinstance(error, NotAllowedNow) else "cannot be noted now"
            return response_of(FAILURE, reason), None
        log.info("commitment.told", peer=_calling_ae_title(event.assoc), confirmed=len(confirmed), failed=len(failed))
        return response_of(SUCCESS, ""), None


def _calling_ae_title(assoc: Any) -> str:
    return str(assoc.requestor.ae_title).strip()
