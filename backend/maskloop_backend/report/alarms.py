"""An alarm for automation bias in a sentence, as a report tells it."""

from maskloop_backend.overview.annotations import UNKNOWN
from maskloop_backend.overview.people import People
from maskloop_backend.report.names import Names
from maskloop_learner.evaluate.bias import Alarm


def tell_alarms(people: People, names: Names) -> list[str]:
    """One sentence an alarm; what it means stands in the first."""
    found = [_tell(alarm, names) for alarm in people.alarms]
    if found:
        found[0] += " Whoever takes masks over without looking teaches the model its own mistakes: talk about it."
    return found


def _tell(alarm: Alarm, names: Names) -> str:
    who = "An unknown annotator" if alarm.name == UNKNOWN else names.of(alarm.name)
    than = (
        f"only {alarm.expected:.0%} agree with an annotator who saw none"
        if alarm.against == "blind"
        else f"the others leave {alarm.expected:.0%}"
    )
    haste = ""
    if alarm.against == "peers" and alarm.seconds is not None and alarm.peers_seconds is not None:
        haste = f", in {alarm.seconds:.0f} s where they take {alarm.peers_seconds:.0f} s"
    return f"Automation bias? {who} leaves {alarm.share:.0%} of the masks as the model drew them, while {than}{haste}."
