"""The facade of party 4: nginx as the stories and the plumbing commands see it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from certctl.domain import Domain, NamePolicy, parse_domain, parse_wildcard
from certctl.errors import NameRejected
from certctl.io.locks import lock
from certctl.nginx import doctor, handshake, mainconf
from certctl.nginx.command import NginxCommand
from certctl.nginx.guard import Guard
from certctl.nginx.master import Master
from certctl.nginx.publish import GuardedChange, read
from certctl.nginx.refusals import already_broken
from certctl.nginx.serverblock import base_file, is_ours, owner_of, server_block
from certctl.nginx.settings import NginxSettings
from certctl.values import Done, Finding, Preview, Site


class Nginx:
    """Fits ``world.WebServer``; mode ``blocks``."""

    def __init__(self, settings: NginxSettings) -> None:
        self._settings = settings
        self._command = NginxCommand(settings)
        self._master = Master(settings, self._command)

    @contextmanager
    def change(self, sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> Iterator[GuardedChange]:
        """Guard a change: hold nginx's lock; on any exception put everything back and reload.

        One exception stays: with ``nginx-not-running`` the tested files are kept, for nginx to read when it
        starts.

        Raises:
            WebServerFailed: the previous configuration is in force again.
            ConfigInvalid: ``state-unwritable``, ``config-invalid``.
            Busy: another run holds nginx's lock for too long.
        """
        with self._locked() as guard:
            change = GuardedChange(self._settings, self._command, guard, sites, gone)
            try:
                yield change
            except BaseException as error:
                guard.give_up(error)
                raise
            change.settle()

    def orphans(self, known: Sequence[Domain]) -> Sequence[Domain]:
        """Return the domains nginx has files of ours for although they are not among ``known``.

        A file in the include directory without our header is somebody else's and never named here.
        """
        expected = {domain.name for domain in known}
        found = set(self._named_by_blocks()) | set(self._named_by_mirror())
        parsed = (_parse(name) for name in found - expected)
        return sorted(domain for domain in parsed if domain)

    def preview(self, site: Site) -> Preview:
        """Render the server block of a site without writing it."""
        path = self._settings.block_path(site.domain)
        text = server_block(self._settings, site.certificate, self._command.version)
        return Preview(path, text, read(path) or "")

    def preview_base(self) -> Preview:
        """Render the base file without writing it."""
        path = self._settings.base_path
        return Preview(path, base_file(self._settings), read(path) or "")

    def install_base(self) -> Done:
        """Write the base file, let nginx test it, reload and prove that; take it back when nginx refuses.

        While nginx is not running, the tested file stays.

        Raises:
            WebServerFailed: as ``Change.publish`` and ``Change.reload``.
        """
        base = self.preview_base()
        with self._locked() as guard:
            if base.text == base.current:
                return Done(f"{base.path} is in place", changed=False)
            try:
                guard.swap({base.path: base.text}, {}, lambda: iter(()), frozenset())
                if self._master.pid() is not None or self._settings.reload_command:
                    guard.reload()
            except BaseException as error:
                guard.give_up(error)
                raise
            guard.settle()
        return Done(f"wrote {base.path}")

    def is_included(self) -> bool:
        """Tell whether nginx's configuration includes our directory, base file or not."""
        return mainconf.includes(self._command.dump(), self._settings.config, self._settings.conf_dir)

    def force_reload(self) -> Done:
        """Test the configuration as it is, reload, and prove it, also when nothing of ours had changed.

        Raises:
            WebServerFailed: ``nginx-already-broken`` and the failures of a reload.
        """
        with self._locked() as guard:
            verdict = self._command.test()
            if not verdict.ok:
                raise already_broken(verdict, self._settings)
            changed = guard.is_reload_pending
            what = "nginx took certctl's changes over" if changed else "nothing of certctl's had changed; reloaded"
            return Done(f"{what} in {guard.reload():.2f} s", changed=changed)

    def worker_group(self) -> str:
        """Return the name of the group nginx's workers have: whoever they talk to on a socket must let it in."""
        named = mainconf.worker_group(self._settings.config)
        return named or mainconf.default_group(self._command.build)

    def served(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf that is really served for a domain, or None; one handshake."""
        return handshake.look(self._settings, handshake.names_to_ask([domain.name])[0]).fingerprint

    def examine(self) -> list[Finding]:
        """Look at nginx and our files for ``certctl doctor``; changes nothing."""
        return doctor.examine(self._settings, self._command, self._master)

    @contextmanager
    def _locked(self) -> Iterator[Guard]:
        with lock(self._settings.lock_file, self._settings.lock_wait, "nginx"):
            guard = Guard(self._settings, self._command, self._master)
            guard.begin()
            yield guard

    def _named_by_blocks(self) -> Iterator[str]:
        for path in sorted(self._settings.conf_dir.glob("*.conf")):
            text = read(path) if path.is_file() and not path.is_symlink() else None
            if text and is_ours(text) and path != self._settings.base_path:
                yield owner_of(text)

    def _named_by_mirror(self) -> Iterator[str]:
        for path in sorted(self._settings.live.glob("[!.]*")):
            if path.is_dir():
                yield path.name.replace("_wildcard", "*")


def _parse(name: str) -> Domain | None:
    """Return the domain a file of ours is named after; what does not parse was not made by us."""
    policy = NamePolicy(allow_private_names=True)
    try:
        return parse_wildcard(name, policy) if name.startswith("*.") else parse_domain(name, policy)
    except NameRejected:
        return None
