"""Who is told of an event: one message for each receiver, to be written down in the transaction of the change. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from collector.alerts import messages
from collector.alerts.alert import Event
from collector.alerts.ledger import Delivery, Silence


def addressed(
    events: Sequence[Event], receivers: Sequence[str], silences: Sequence[Silence], untold: set[str], now_ns: int
) -> list[Delivery]:
    """The deliveries of events. `untold` are alerts that were silenced when they fired: who was told that one fired is told the rest of it, and nobody else is."""
    untold = set(untold)
    deliveries = []
    for event in events:
        message = msgspec.json.encode(messages.document(event)).decode()
        silenced = event.alert.alert_id in untold or any(one.keeps(event.alert, now_ns) for one in silences)
        if silenced:
            untold.add(event.alert.alert_id)
        for receiver in receivers:
            # People are told once of an incident; programs and the inhibition of Alertmanager take every symptom.
            if receiver == "slack" and event.alert.role != "root" and event.change != "widened":
                continue
            deliveries.append(
                Delivery(
                    delivery_id=f"{event.event_id}-{receiver}",
                    event_id=event.event_id,
                    alert_id=event.alert.alert_id,
                    incident_id=event.alert.incident_id,
                    receiver=receiver,
                    state="silenced" if silenced else "waiting",
                    queued_ns=event.happened_ns,
                    due_ns=event.happened_ns,
                    message=message,
                )
            )
    return deliveries
