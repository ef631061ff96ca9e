"""Set a host up: the configuration, certctl's directories and nginx's base file, foreseen and then done."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from certctl.app.config_file import write
from certctl.app.context import Context
from certctl.app.directories import prepare_directories
from certctl.app.mode_switch import Plan, bring_pairs_over, move, plan, require_nginx
from certctl.app.ownership import require_write
from certctl.app.report import Report
from certctl.app.toml_edit import Key
from certctl.io import accounts
from certctl.io.fsuid import as_root
from certctl.stories.journey import Journey
from certctl.values import Preview


@dataclass(frozen=True, slots=True)
class Setup:
    """What is to be done.

    Attributes:
        host: As it is, and as it is to be.
        said: What the configuration says then, by section and key.
        included: The line that makes nginx include our directory, where one is missing.
        base: nginx's base file.
        moves: Whether everybody is to be served in a mode that was named.
    """

    host: Plan
    said: Mapping[Key, str]
    included: Sequence[Preview]
    base: Sequence[Preview]
    moves: bool

    @property
    def previews(self) -> Sequence[Preview]:
        """Return every file, as it is and as it is to be."""
        return [self.host.config, *self.included, *self.base]


def foresee(old: Context, values: Mapping[Key, str], mode: str | None, *, only_looks: bool) -> Setup:
    """Return what would be done so that a configuration with these values is in force.

    Only a user and a group that nginx's ``user`` line needs are made at once, unless this run only looks: nginx's
    test refuses a group that is not there.

    Raises:
        ConfigInvalid: ``needs-root``, ``config-invalid``, ``keys-out-of-reach``, ``missing-account``.
        WebServerFailed: nginx would not take the base file.
    """
    require_write(old.file, old.path(old.settings.nginx.conf_dir))
    found = {("nginx", key): value for key, value in old.found.items()}  # or a second nginx would take its place
    said = found | dict(values) | ({("nginx", "mode"): mode} if mode else {})
    host = plan(old, said, old.source.root)
    host = replace(host, new=host.new.in_mode(mode)) if mode else host
    if not only_looks:
        _make_accounts(host.new)
    host.new.web.require_access()
    included, base = _include_file(host.new), host.new.web.preview_base()
    host.new.web.foresee_base(will_be_included=bool(included))
    return Setup(host, said, included, base, moves=mode is not None)


def carry_out(setup: Setup, report: Report) -> Sequence[Journey]:
    """Do it; return how each site fared that had to be published anew.

    Raises: as ``mode_switch.move``, and what nginx says of a whole that somebody else has broken.
    """
    new = setup.host.new
    if setup.moves:
        require_nginx(new)
        write(new, setup.included)
        report.expect(len(new.store.domains()))
        journeys = move(setup.host, setup.host.written_down(setup.said), report)
    else:
        prepare_directories(new)
        write(new, [setup.host.config, *setup.included])
        new.web.install_base()
        journeys = bring_pairs_over(new, report)
    if all(journey.ok for journey in journeys) and not any(file.diff() for file in [*setup.included, *setup.base]):
        new.web.require_sound()  # nginx has tested nothing yet
    return journeys


@as_root()
def _make_accounts(context: Context) -> None:
    """Make the user and the group first: nginx takes no ``user`` line with a group that is not there."""
    if context.settings.nginx.mode != "blocks":
        accounts.create(context.settings.serve.user, context.settings.nginx.group)


@as_root()
def _include_file(context: Context) -> list[Preview]:
    """Return one line that makes nginx include our directory, where Debian's layout has a place for it."""
    directory = context.path(context.settings.nginx.conf_dir)
    path = context.path(context.settings.nginx.config).parent / "conf.d/certctl.conf"
    if context.web.is_included() or not (path.parent.is_dir() and context.web.reads(path)):
        return []
    text = f"# managed by certctl: server blocks of customers' domains\ninclude {directory}/*.conf;\n"
    return [Preview(path, text, path.read_text(encoding="utf-8") if path.exists() else "")]
