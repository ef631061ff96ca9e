"""The configuration file as certctl writes it: commented, or the operator's own with some values changed."""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from certctl import __version__
from certctl.app.context import Context
from certctl.app.toml_edit import Key, with_value
from certctl.io.files import PUBLIC, make_directory, rewrite, writing
from certctl.io.fsuid import as_root
from certctl.values import Preview

if TYPE_CHECKING:
    from certctl.config import Settings

_CONFIG_MODE = 0o640


@as_root()
def wanted(context: Context, values: Mapping[Key, str]) -> Preview:
    """Return the configuration with these values; where there is none, a commented one with what is in force.

    Raises:
        ConfigInvalid: ``config-invalid``: the file sets one of these keys in another form than one line for it.
    """
    current = context.file.read_bytes().decode("utf-8") if context.file.exists() else ""
    text = current if context.file.exists() else commented(context.settings)
    for (section, key), value in values.items():
        text = with_value(text, section, key, value)
    return Preview(context.file, text, current)


def write(context: Context, previews: Sequence[Preview]) -> None:
    """Write the files that differ: the configuration readable by root's group alone, the others by all users.

    Raises:
        ConfigInvalid: ``state-unwritable``.
    """
    for preview in previews:
        if preview.diff():
            with writing(preview.path), as_root():
                make_directory(preview.path.parent, 0o755)
                rewrite(preview.path, preview.text, _CONFIG_MODE if preview.path == context.file else PUBLIC)


def commented(settings: "Settings") -> str:
    """Return a TOML file with every key and its meaning; a key that was not set is commented out."""
    lines = [f"# certctl {__version__}: every key is optional; 'certctl config show' prints what is in force."]
    for section, model in settings:
        defaults = type(model)()
        lines += ["", f"[{section}]"]
        for key, field in type(model).model_fields.items():
            value = getattr(model, key)
            mark = "# " if value == getattr(defaults, key) and key not in model.model_fields_set else ""
            lines.append(f"{mark}{key} = {_toml(value)}  # {field.description}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(k)} = {json.dumps(v)}" for k, v in value.items()) + " }"
    return json.dumps(list(value) if isinstance(value, tuple) else value)
