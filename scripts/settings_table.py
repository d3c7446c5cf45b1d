"""Print docs/settings.md from the settings table: python scripts/settings_table.py > docs/settings.md"""

from pydantic_core import PydanticUndefined

from maskloop_learner.settings import Settings

# Defaults that depend on the machine are described, not printed.
DESCRIBED = {
    "home": "the user's data folder",
    "gpu_threads": "half of the cores",
    "training_threads": "the rest of the cores",
}
HEAD = """# Settings

Every setting is an environment variable. `maskloop` reads them at its start and names the variable when a value
cannot be used. `MASKLOOP_X_FILE` names a file that holds the value of `MASKLOOP_X`, as containers are given their
secrets. Changing what determines a mask (`SAMPLES`, `THRESHOLD`, `MIN_SPECK_AREA`, `MAX_HOLE_AREA`) gives
a new prediction version: all images are predicted anew and Label Studio is switched when they are there.

| Variable | Default | What it does |
|---|---|---|"""


def default_of(name: str) -> str:
    """The default as the table shows it."""
    if name in DESCRIBED:
        return DESCRIBED[name]
    default = Settings.model_fields[name].default
    return "unset" if default is None or default is PydanticUndefined else f"`{default}`"


def main() -> None:
    """Print the page."""
    print(HEAD)
    for name, field in Settings.model_fields.items():
        print(f"| `MASKLOOP_{name.upper()}` | {default_of(name)} | {field.description} |")


if __name__ == "__main__":
    main()
