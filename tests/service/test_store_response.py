"""The bytes of an answer to a C-STORE are those that pynetdicom would send."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RSP, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from iscl_monai.service.receiving.store_response import command_set, fragments

uids = st.from_regex(r"1\.2\.[1-9][0-9]{0,40}", fullmatch=True)
comments = st.none() | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x5B), min_size=1, max_size=64)


def response_of(sop_class: str, sop_instance: str, message_id: int, status: int, comment: str | None) -> C_STORE:
    response = C_STORE()
    response.MessageID = response.MessageIDBeingRespondedTo = message_id
    response.AffectedSOPClassUID, response.AffectedSOPInstanceUID = sop_class, sop_instance
    response.Status = status
    if comment is not None:
        response.ErrorComment = comment.strip() or "x"
    return response


@settings(deadline=None, max_examples=30)
@given(uids, uids, st.integers(0, 65535), st.sampled_from([0, 0xA700, 0xA900, 0xC000, 0xC211]), comments)
def test_the_bytes_are_those_of_pynetdicom(
    sop_class: str, sop_instance: str, message_id: int, status: int, comment: str | None
) -> None:
    response = response_of(sop_class, sop_instance, message_id, status, comment)
    message = C_STORE_RSP()
    message.primitive_to_message(response)
    for longest in (0, 7, 16, 16384):
        theirs = [one.presentation_data_value_list for one in message.encode_msg(3, longest)]
        assert [[(3, data)] for data in fragments(command_set(response), longest)] == theirs


@settings(deadline=None, max_examples=30)
@given(uids, st.integers(7, 300))
def test_a_peer_reads_them_however_small_its_pdus_are(sop_instance: str, longest: int) -> None:
    message = DIMSEMessage()
    for data in fragments(command_set(response_of("1.2.3", sop_instance, 7, 0xA700, "no room")), longest):
        part = P_DATA()
        part.presentation_data_value_list.append((1, data))
        whole = message.decode_msg(part)
    assert whole
    found = message.command_set
    assert (found.AffectedSOPInstanceUID, found.Status, found.ErrorComment) == (sop_instance, 0xA700, "no room")
