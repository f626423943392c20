"""One message through every channel, to know before it matters whether it arrives."""

from __future__ import annotations

from collections.abc import Iterable

from iscl_monai.errors import ConfigRefusal
from iscl_monai.service.notify.channels import Channel, NotSentError
from iscl_monai.service.notify.message import Message
from iscl_monai.service.notify.notices import Batch
from iscl_monai.service.notify.notifier import channels_of
from iscl_monai.service.settings import Settings


def send_test_messages(settings: Settings, channels: Iterable[Channel] | None = None) -> dict[str, str]:
    """Send a message that says it is a test, through each channel, whatever becomes of the others.

    Args:
        settings: of the node, which need not run.
        channels: that tell people; None: those of the settings.

    Returns:
        By the channel's name, why it did not take the message; "" if it did.

    Raises:
        ConfigRefusal: the settings name nobody to tell.
    """
    found = channels_of(settings.notify) if channels is None else tuple(channels)
    if not found:
        raise ConfigRefusal(
            "the settings name nobody to tell",
            allowed="[notify.webhook], [notify.mail], or both",
            cure="add one of them (docs/how-to/pacs.md)",
        )
    message = Message(settings.node.ae_title, Batch((), ()), settings.notify.page_url, is_test=True)
    return {channel.name: _reason(channel, message) for channel in found}


def _reason(channel: Channel, message: Message) -> str:
    try:
        channel.send(message)
    except NotSentError as error:
        return str(error)
    except Exception as error:
        return f"a fault of ours ({type(error).__name__})"
    return ""
