"""Set a host up (``certctl init``): the configuration, certctl's directories and nginx's base file."""

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
    """A setup that was planned and not carried out yet.

    Attributes:
        host: The host before and after.
        said: The values the configuration will have, by section and key.
        included: The line that makes nginx include our directory, where one is missing.
        base: nginx's base file before and after.
        moves: Whether all sites move to a mode that was named.
    """

    host: Plan
    said: Mapping[Key, str]
    included: Sequence[Preview]
    base: Sequence[Preview]
    moves: bool

    @property
    def previews(self) -> Sequence[Preview]:
        """Return every file before and after."""
        return [self.host.config, *self.included, *self.base]


def foresee(old: Context, values: Mapping[Key, str], mode: str | None, *, only_looks: bool) -> Setup:
    """Plan the setup that puts a configuration with these values in force.

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
    """Carry out a setup; return a journey for each site that had to be published again.

    Raises: as ``mode_switch.move``; WebServerFailed when nginx's configuration was broken before.
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
    """Create the daemon's user and group: nginx's test refuses a ``user`` line with a group that does not exist."""
    if context.settings.nginx.mode != "blocks":
        accounts.create(context.settings.serve.user, context.settings.nginx.group)


@as_root()
def _include_file(context: Context) -> list[Preview]:
    """Return the file with the line that makes nginx include our directory; none without Debian's ``conf.d``."""
    directory = context.path(context.settings.nginx.conf_dir)
    path = context.path(context.settings.nginx.config).parent / "conf.d/certctl.conf"
    if context.web.is_included() or not (path.parent.is_dir() and context.web.reads(path)):
        return []
    text = f"# managed by certctl: server blocks of customers' domains\ninclude {directory}/*.conf;\n"
    return [Preview(path, text, path.read_text(encoding="utf-8") if path.exists() else "")]
