"""Version numbers of models: `major.minor.patch`, as semver.org has them."""

import re

VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)(?:[-+][0-9A-Za-z.+-]+)?")


def next_minor(version: str | None) -> str:
    """The version with its second number raised and its third 0. Raises ValueError when it is not one."""
    found = VERSION.fullmatch(version or "")
    if not found:
        raise ValueError(
            f"model_version {version!r} cannot be bumped: it is not like 1.2.3; set it with set('model_version', ...)"
        )
    return f"{found[1]}.{int(found[2]) + 1}.0"
