"""Settings in plain sentences: what ``iscl-monai serve --check`` prints."""

from __future__ import annotations

from collections.abc import Iterator

from iscl_monai.service.settings import Settings


def describe(settings: Settings) -> Iterator[str]:
    """What settings mean, line by line, for the person who wrote them."""
    security = "TLS, client certificates asked for" if settings.node.tls else "no TLS"
    yield f"listens as {settings.node.ae_title} on {settings.node.host}:{settings.node.port} ({security})"
    for peer in settings.peers:
        address = peer.url or (f"{peer.ae_title} at {peer.host}:{peer.port}" if peer.port else f"{peer.ae_title}")
        roles = [
            "may send" if peer.may_send and not peer.url else "",
            f"receives, proof: {peer.confirm}" if peer.can_receive else "",
            f"is looked through for the last {peer.sweep_days} days" if peer.sweep else "",
        ]
        yield f"peer {peer.name}: {address}; {'; '.join(filter(None, roles)) or 'does nothing'}"
    yield from describe_rules(settings)
    yield f"pages on {settings.web.host}:{settings.web.port}; files in {settings.data}; model in {settings.bundle}"


def describe_rules(settings: Settings) -> Iterator[str]:
    """What the rules mean, a line for each."""
    for number, rule in enumerate(settings.rules, start=1):
        condition = " and ".join(f"{tag} is {_alternatives(tests)}" for tag, tests in rule.when.items()) or "anything"
        action = "nothing"
        if rule.process:
            action = f"strength {rule.strength:g}, {rule.priority}, to {', '.join(rule.send_to) or 'nobody'}"
            action = f"for comparison only (shadow): {action}" if rule.shadow else action
            action += "; held back if unlike the training" if rule.hold_unlike else ""
        yield f"rule {number}, {rule.name}: {condition}; after {rule.quiet_s:g} s: {action}"


def _alternatives(tests: str | tuple[str, ...]) -> str:
    return tests if isinstance(tests, str) else " or ".join(tests)
