"""label-studio-sdk, imported when a subclass first needs it: it takes 1.4 s and brings much along."""

from typing import Any

EXTRA = "pip install 'maskloop[ml-base]'"


class MissingExtra(ImportError):
    """A method needs label-studio-sdk, which is not installed; the message names the extra that brings it."""


def _missing(what: str, error: ImportError) -> MissingExtra:
    return MissingExtra(f"{what} needs label-studio-sdk 2 or newer ({error}); install it with: {EXTRA}")


def read_interface(label_config: str) -> Any:
    """The SDK's LabelInterface of a label config. Raises MissingExtra, and the SDK's errors for a bad config."""
    try:
        from label_studio_sdk.label_interface import LabelInterface
    except ImportError as error:
        raise _missing("label_interface", error) from error
    return LabelInterface(config=label_config)


def parse_label_config(label_config: str) -> dict[str, Any]:
    """Control tags by name, as Label Studio's `parsed_label_config` has them. Raises MissingExtra."""
    try:
        from label_studio_sdk._extensions.label_studio_tools.core.label_config import parse_config
    except ImportError as error:
        raise _missing("parsed_label_config", error) from error
    parsed: dict[str, Any] = parse_config(label_config)
    return parsed


def local_path(url: str, **arguments: Any) -> str:
    """Download (or find) a file of task data; returns its path on this machine. Raises MissingExtra."""
    try:
        from label_studio_sdk._extensions.label_studio_tools.core.utils.io import get_local_path
    except ImportError as error:
        raise _missing("get_local_path", error) from error
    return str(get_local_path(url, **arguments))
