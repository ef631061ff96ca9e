"""The facade of nginx (party 4): what stories and commands ask of it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path

from certctl.domain import Domain, NamePolicy, parse_domain, parse_wildcard
from certctl.errors import NameRejected, WebServerFailed
from certctl.io.fsuid import as_root
from certctl.io.locks import lock
from certctl.nginx import (
    access,
    aside,
    challenge,
    doctor,
    foresee,
    handshake,
    mainconf,
    mirror,
    probe,
    serving,
)
from certctl.nginx.base import base_files, serves_the_mirror
from certctl.nginx.block_change import Work, in_force
from certctl.nginx.blocks import Blocks
from certctl.nginx.broken import Recall
from certctl.nginx.change import SiteChange, every_site_locked, open_change
from certctl.nginx.command import NginxCommand
from certctl.nginx.errors import already_broken, intercepted, no_tls, only_behind_catch_all, unanswered
from certctl.nginx.footprint import DUMPED, Footprint, footprint
from certctl.nginx.master import Master, not_reached
from certctl.nginx.place import Place
from certctl.nginx.serverblock import is_our_block, is_ours, owner_of, read, server_block
from certctl.nginx.service import unit_of
from certctl.nginx.settings import NginxSettings
from certctl.nginx.transaction import PENDING, Swap, Transaction
from certctl.values import Certificate, Done, Finding, Mode, Pem, Preview, Site


class Nginx:
    """Implements ``parties.WebServer``.

    Args:
        settings: The settings of nginx on this host.
        recall: Returns a site from the store, for a server block whose pair is gone.
        is_time_right: Tells whether this host's clock is right, before anything is deleted for its age.
    """

    def __init__(
        self,
        settings: NginxSettings,
        recall: Recall = lambda _: None,
        is_time_right: Callable[[], bool] = lambda: True,
    ) -> None:
        self._settings = settings
        self._recall = recall
        self._is_time_right = is_time_right
        self._command = NginxCommand(settings)
        self._master = Master(settings, self._command)
        self._blocks = Blocks(settings, self._command)

    @contextmanager
    def change(self, sites: Sequence[Site], *, gone: Sequence[Domain] = ()) -> Iterator[SiteChange]:
        """Yield a change under the locks it needs; on an exception it is rolled back, and nginx reloaded if needed.

        One exception stays: with ``nginx-not-running`` the tested files are kept, for nginx to read when it
        starts. Sites behind the catch-all need neither nginx's lock nor its test, nor a reload. After it, what has
        been aside for too long is deleted.

        Raises:
            WebServerFailed: the previous configuration is in force again.
            ConfigInvalid: ``state-unwritable``, ``config-invalid``.
            Busy: another run holds nginx's lock, or a site's, for too long.
        """
        work = Work([*sites], [*gone])
        with open_change(self._settings, self._command, self._locked, self._recall, work) as change:
            yield change
        aside.expire(self._settings, self._is_time_right)

    def require_running(self, why: str) -> None:
        """Refuse to go on while nginx is down; with a reload command it may run where we cannot ask it.

        Raises:
            WebServerFailed: ``nginx-not-running``.
        """
        if not self._is_reachable():
            raise not_reached(self._settings, why)

    def require_challenge(self, domain: Domain) -> Done:
        """Require that nginx answers HTTP-01 for a domain, by a token of our own fetched as the CA would.

        Raises:
            WebServerFailed: ``nginx-challenge-intercepted``, ``nginx-not-included``, ``nginx-not-running``.
            ConfigInvalid: ``state-unwritable``, as ``require_room``.
        """
        self.require_room(domain)
        answer = challenge.ask(self._settings, domain.name)
        if not answer.is_right:
            foresee.require_included(self._settings)
        if answer.is_silence:
            raise unanswered(answer, "it has to answer the CA, so nothing was ordered", self._settings)
        if not answer.is_right:
            raise intercepted(domain.name, answer, self._blocks.answering(domain.name), self._settings)
        return Done(f"port {self._settings.http_port} answers the challenge", changed=False)

    def require_room(self, domain: Domain) -> None:
        """Refuse to order a certificate that could not be published, for want of rights or of space.

        Raises:
            ConfigInvalid: ``state-unwritable``.
        """
        settings = self._settings
        if settings.mode is not Mode.BLOCKS:
            settings.catch_all_pairs.require_room()
        if settings.mode is Mode.BLOCKS or domain.is_wildcard:
            settings.block_pairs.require_room()
            settings.require_room_for_blocks()

    def require_tls(self) -> Done:
        """Require that nginx speaks TLS, by one handshake for a name of our own.

        Raises:
            WebServerFailed: ``nginx-not-running``.
        """
        if trouble := handshake.trouble(self._settings):
            raise no_tls(trouble, self._settings)
        return Done(f"port {self._settings.https_port} answers TLS", changed=False)

    def names(self) -> Sequence[Domain]:
        """Return the domains that have a server block of ours, or a pair in force.

        A directory without a pair in force, which a killed run left, does not count; the domain's next change
        removes it. A file in the include directory without our header is not ours, and does not count either.
        """
        found = set(self._named_by_blocks()) | set(self._named_by_mirror())
        return sorted(domain for domain in map(_parse, found) if domain)

    def leaf(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf our files have in force for a domain; None when there is none."""
        return serving.leaf(in_force(self._settings), domain)

    def in_force(self, domain: Domain, now: datetime) -> Site:
        """Return a domain as our files have it in force; see ``serving.site``.

        Raises:
            Unreachable: ``store-knows-less``: there is no pair that the store could take in.
        """
        return serving.site(in_force(self._settings), domain, now)

    def require_shown(self, site: Site) -> None:
        """Require that nginx shows a site's pair in a handshake.

        Raises:
            Unreachable: ``store-knows-less``.
        """
        serving.require_shown(self._settings, site)

    def discard(self, domain: Domain) -> None:
        """Delete what was moved aside of a removed domain."""
        aside.discard(self._settings, domain)

    def preview(self, site: Site) -> Preview:
        """Return the server block of a site without writing it; or the link, when the catch-all serves it."""
        settings = in_force(self._settings)
        path = settings.block_path(site.domain)
        if settings.has_block(site):
            text = server_block(settings, site.certificate, self._command.version)
            return Preview(path, text, read(path) or "")
        if is_our_block(path):
            return Preview(path, "", read(path) or "")
        link = settings.catch_all_pairs.link(site.domain)
        current = settings.catch_all_pairs.target(site.domain)
        version = site.certificate.version
        wanted = current if mirror.is_version(current, version) else version
        return Preview(link, f"{link} -> {wanted}\n", f"{link} -> {current}\n" if current else "")

    def holds(self, site: Site) -> bool:
        """Tell whether nginx's files equal what the store has, byte for byte."""
        return in_force(self._settings).place_of(site).holds(site) and not self.preview(site).diff()

    def is_published(self, certificate: Certificate, mode: Mode | None) -> bool:
        """Tell whether the files by which nginx serves this version exist; their content is not read."""
        settings, site = in_force(self._settings), Site(certificate, Pem("", ""), mode)
        if not settings.has_block(site):
            return settings.catch_all_pairs.has_pair(certificate)
        is_there = settings.block_pairs.has_pair(certificate) or self.is_in_old_place(certificate, mode)
        return is_there and is_our_block(settings.block_path(certificate.domain))

    def is_in_old_place(self, certificate: Certificate, mode: Mode | None) -> bool:
        """Tell whether a server block names its pair where an older certctl put it."""
        settings, site = in_force(self._settings), Site(certificate, Pem("", ""), mode)
        if not settings.has_block(site) or not settings.catch_all_pairs.has_pair(certificate):
            return False
        text = read(settings.block_path(certificate.domain)) or ""
        return f" {settings.catch_all_pairs.link(certificate.domain)}/" in text

    def preview_base(self) -> list[Preview]:
        """Return the Lua file and the base file, the base file last, without writing them."""
        wanted = base_files(self._settings, self._command)
        previews = [Preview(path, text or "", read(path) or "") for path, text in wanted.items()]
        return [preview for preview in previews if preview.text or preview.current]

    def install_base(self) -> Done:
        """Write the base file, let nginx test it, reload, and prove the catch-all; roll back on a failure.

        While nginx is not running, the tested file stays. A base file without a catch-all for sites is only
        installed when every site has a server block; the locks of all sites are held meanwhile.

        Raises:
            WebServerFailed: as ``Change.publish`` and ``Change.reload``; ``nginx-not-served``, a name would not be.
        """
        base = self._settings.base_path
        with self._no_site_changing(), self._locked() as transaction:
            if without := self.without_block():
                raise only_behind_catch_all(without)
            wanted = base_files(self._settings, self._command)
            changed = {path: text for path, text in wanted.items() if text != read(path)}
            if not (changed or transaction.is_reload_pending):  # a killed run may not have seen nginx read it
                return Done(f"{base} is in place", changed=False)
            try:
                if changed:
                    transaction.swap(Swap(changed))
                if self._is_reachable():
                    transaction.reload()
                    probe.prove_catch_all(self._settings)
            except BaseException as error:
                transaction.give_up(error)
                raise
            transaction.settle()
        return Done(f"wrote {base}" if changed else f"{base} is in place", changed=bool(changed))

    def without_block(self) -> Sequence[Domain]:
        """Return the domains that the catch-all in force serves, and this mode's base file would not."""
        settings = self._settings
        if not self.ends_the_catch_all:
            return []
        live = settings.catch_all_pairs
        found = filter(None, map(_parse, self._named_by(live)))
        return sorted(d for d in found if live.target(d) and not is_our_block(settings.block_path(d)))

    def require_access(self) -> None:
        """Refuse a mode in which nginx's workers could not read keys after the next reload.

        Raises:
            ConfigInvalid: ``keys-out-of-reach``, with the line that nginx's main file needs.
        """
        if self._settings.mode is not Mode.BLOCKS:
            access.require(self._settings, self._command, self._master)

    def set_rights(self) -> None:
        """Give the mirror's directories and keys the modes that this mode of serving needs."""
        mirror.set_rights(self._settings.live, self._settings.wanted_rights)

    def is_included(self) -> bool:
        """Tell whether nginx's configuration includes our directory, even when it is empty."""
        return foresee.is_read(self._settings.config, self._settings.conf_dir)

    def reads(self, path: Path) -> bool:
        """Tell whether nginx's configuration includes what lies in the directory of a file."""
        return foresee.is_read(self._settings.config, path.parent)

    def foresee_base(self, *, will_be_included: bool) -> None:
        """Refuse a base file that nginx would not include, or would refuse.

        Raises:
            WebServerFailed: ``nginx-not-included``, ``nginx-conflict``, each with file and line.
        """
        if not will_be_included:
            foresee.require_included(self._settings)
        foresee.require_free(self._settings)

    def require_sound(self) -> None:
        """Require that nginx accepts its configuration as it is.

        Raises:
            WebServerFailed: ``nginx-already-broken``.
        """
        verdict = self._command.test()
        if not (verdict.ok or verdict.is_environment):
            raise already_broken(verdict, self._settings)

    @property
    def is_reload_pending(self) -> bool:
        """Tell whether files have changed since nginx provably read them."""
        with as_root():
            return (self._settings.conf_dir / PENDING).exists()

    def force_reload(self) -> Done:
        """Test the configuration, reload nginx, and prove the reload, even when no file of ours changed.

        Raises:
            WebServerFailed: ``nginx-already-broken`` and the failures of a reload.
        """
        with self._locked() as transaction:
            verdict = self._command.test()
            if not verdict.ok:
                raise already_broken(verdict, self._settings)
            changed = transaction.is_reload_pending
            what = "nginx took certctl's changes over" if changed else "nothing of certctl's had changed; reloaded"
            return Done(f"{what} in {transaction.reload():.2f} s", changed=changed)

    def worker_group(self) -> str:
        """Return the name of the group of nginx's workers, which must be able to open the daemon's socket."""
        named = mainconf.worker_group(self._settings.config)
        return named or mainconf.default_group(self._command.build)

    @property
    def unit(self) -> str:
        """Return the systemd unit that runs nginx, such as ``nginx.service``."""
        try:
            pid = self._master.pid()
        except WebServerFailed:
            pid = None
        return unit_of(pid, self._settings.binary)

    def footprint(self) -> Footprint | None:
        """Return the paths that nginx's test needs; None when there is no nginx.

        ``nginx -T`` shows no invalid configuration: then only the main file is read.

        Raises:
            WebServerFailed: ``nginx-missing``, there is an nginx that no service would find.
        """
        try:
            dump, build = self._command.dump(), self._command.build
        except WebServerFailed as error:
            if error.seen:
                raise
            return None
        return footprint(dump if DUMPED in dump else read(self._settings.config) or "", build)

    def served(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf that one handshake shows for a domain; None when there is none."""
        return handshake.look(self._settings, handshake.names_to_ask([domain.name])[0]).fingerprint

    def examine(self, names: Sequence[Domain] = ()) -> list[Finding]:
        """Return the findings of ``certctl doctor`` about nginx, our files, and HTTP-01 for some names."""
        answers = list(doctor.answers(self, names))  # first: its token is written as the state's owner
        with as_root():
            return doctor.examine(self._settings, self._command, self._master, answers)

    def _is_reachable(self) -> bool:
        """Tell whether there is an nginx to reload: it answers, or its master is found."""
        settings = self._settings
        answers = challenge.is_answered(settings) or handshake.is_answered(settings)
        return answers or bool(settings.reload_command) or self._master.pid() is not None

    @contextmanager
    def _locked(self) -> Iterator[Transaction]:
        with lock(self._settings.lock_file, self._settings.lock_wait, "nginx"):
            transaction = Transaction(self._settings, self._command, self._master)
            transaction.begin()
            yield transaction

    @as_root()
    def _named_by_blocks(self) -> Sequence[str]:
        blocks = sorted({*self._settings.conf_dir.glob("*.conf")} - {self._settings.base_path})
        texts = [read(path) or "" for path in blocks if path.is_file() and not path.is_symlink()]
        return [owner_of(text) for text in texts if text and is_ours(text)]

    def _named_by_mirror(self) -> Sequence[str]:
        places = (self._settings.catch_all_pairs, self._settings.block_pairs)
        return [name for place in places for name in self._named_by(place)]

    def _named_by(self, place: Place) -> Sequence[str]:
        with place.reached():
            links = [path for path in place.path.glob(f"[!.]*/{mirror.CURRENT}") if path.is_symlink()]
            found = sorted(path.parent.name for path in links if not path.parent.is_symlink())
        return [name.replace("_wildcard", "*") for name in found]

    def _no_site_changing(self) -> AbstractContextManager[None]:
        return every_site_locked(self._settings) if self.ends_the_catch_all else nullcontext()

    @property
    def ends_the_catch_all(self) -> bool:
        """Tell whether the installed base file serves names without a server block, and this mode's would not."""
        settings = self._settings
        return settings.mode is Mode.BLOCKS and serves_the_mirror(settings, read(settings.base_path))


def _parse(name: str) -> Domain | None:
    """Return the domain that a file of ours is named after; None for a name that we do not make."""
    policy = NamePolicy(allow_private_names=True)
    try:
        return parse_wildcard(name, policy) if name.startswith("*.") else parse_domain(name, policy)
    except NameRejected:
        return None
