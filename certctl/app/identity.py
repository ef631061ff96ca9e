"""Who the operator is: four values that no default can know, and what it means while one of them is a default."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certctl.app.context import Context
from certctl.app.toml_edit import Key
from certctl.errors import NameRejected
from certctl.slugs import Slug


@dataclass(frozen=True, slots=True)
class Value:
    """One of the four values: its option, its key, and the harm its default does to others (empty: none)."""

    option: str
    placeholder: str
    section: str
    key: str
    help: str
    harm: str = ""

    @property
    def name(self) -> str:
        """Return the option as click names its parameter."""
        return self.option.removeprefix("--").replace("-", "_")


VALUES = (
    Value("--target", "NAME", "dns", "target", "Where customers' CNAME must end.",
          "customers are told to point there"),
    Value("--approval-url", "URL", "approval", "url", "Your approval endpoint; {domain} stands for the name.",
          "the names of customers are sent there"),
    Value("--zone", "ZONE", "wildcard", "zone", "Your own zone: no customer may have a name in it.",
          "it is taken for your own zone"),
    Value("--email", "ADDR", "ca", "email", "Contact for the account at the CA."),
)  # fmt: skip


def checked(given: Mapping[str, str | None]) -> dict[Key, str]:
    """Return the values that were given, by (section, key), in the form the configuration file keeps them.

    Raises:
        NameRejected: ``usage``, with every fault in ``seen``.
    """
    from certctl.config import check_value

    found, faults = dict[Key, str](), list[str]()
    for value in VALUES:
        text = given[value.name]
        if text is None:
            continue
        try:
            found[value.section, value.key] = check_value(value.section, value.key, text)
        except ValueError as error:
            faults.append(f"{value.option}: {error}")
    if faults:
        which = "an option is" if len(faults) == 1 else f"{len(faults)} options are"
        raise NameRejected(Slug.USAGE, f"{which} not what it should be; nothing was written", seen=faults,
                           next=["certctl init --help"])  # fmt: skip
    return found


def foreign_defaults(context: Context) -> tuple[str, str] | None:
    """Return which harmful defaults are in force, and the command that replaces them; None when there are none.

    A value from the file or the environment is never a default, even an equal one. A sandbox is not checked.
    """
    mine = [value for value in VALUES if value.harm and not _is_chosen(context, value)]
    if not mine or context.path("/") != Path("/"):
        return None
    said = [f"[{v.section}] {v.key} = {_in_force(context, v)} ({v.harm})" for v in mine]
    fix = " ".join(f"{value.option} {value.placeholder}" for value in mine)
    return f"a default that is not yours is in force: {'; '.join(said)}", f"certctl init {fix}"


def _is_chosen(context: Context, value: Value) -> bool:
    return value.key in getattr(context.settings, value.section).model_fields_set


def _in_force(context: Context, value: Value) -> str:
    return str(getattr(getattr(context.settings, value.section), value.key))


def overridden(context: Context, given: Mapping[Key, str]) -> Sequence[str]:
    """Return the environment variables that override a value given for the file."""
    wins = [key for key, value in given.items() if str(getattr(getattr(context.settings, key[0]), key[1])) != value]
    return [f"CERTCTL_{section.upper()}__{key.upper()}" for section, key in wins]
