"""Which label of the label config each label of a model is."""

from collections.abc import Mapping, Sequence


def match_model_labels(predicted_values: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    """The config's label by the model's label, for those of the model's `names` that the config has.

    `predicted_values`: for each label of the config the text of its attribute of that name, "car, truck". A label
    without a match there is matched by its own name, exactly first, then in lower case.
    """
    known, by_lower = set(names), {name.lower(): name for name in reversed(names)}
    matched: dict[str, str] = {}
    for label, text in predicted_values.items():
        named = [value.strip() for value in text.split(",") if value.strip() in known]
        if not named:
            named = [label] if label in known else [by_lower[label.lower()]] if label.lower() in by_lower else []
        matched |= dict.fromkeys(named, label)
    return matched
