"""The facade of party 4: nginx as the stories and the plumbing commands see it."""

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
    """Fits ``ports.parties.WebServer``.

    Args:
        settings: What to know of this host.
        recall: Returns a site as the store has it, for a server block whose pair is gone.
        is_time_right: Whether this host's clock is right, before anything is deleted for its age.
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
        """Guard a change: hold the locks it needs; on any exception put everything back, and reload if need be.

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
        """Refuse to go on where nginx is down; a reload command may reach one that does not answer here.

        Raises:
            WebServerFailed: ``nginx-not-running``.
        """
        if not self._is_reachable():
            raise not_reached(self._settings, why)

    def require_challenge(self, domain: Domain) -> Done:
        """Ask nginx for a token of our own as the CA would ask for this domain's.

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
        """Refuse to order what could not be published, for want of rights, as under an older unit, or of room.

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
        """Shake hands for nobody's name, to see that nginx speaks TLS at all.

        Raises:
            WebServerFailed: ``nginx-not-running``.
        """
        if trouble := handshake.trouble(self._settings):
            raise no_tls(trouble, self._settings)
        return Done(f"port {self._settings.https_port} answers TLS", changed=False)

    def names(self) -> Sequence[Domain]:
        """Return the domains nginx has a server block of ours for, or a pair in force.

        A directory that a killed run left without a pair in force serves nobody; its name's next change clears it.
        A file in the include directory without our header is somebody else's and never named here.
        """
        found = set(self._named_by_blocks()) | set(self._named_by_mirror())
        return sorted(domain for domain in map(_parse, found) if domain)

    def leaf(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf that our files have in force for a domain, None where there is none."""
        return serving.leaf(in_force(self._settings), domain)

    def in_force(self, domain: Domain, now: datetime) -> Site:
        """Return a domain as our files have it in force; see ``serving.site``.

        Raises:
            Unreachable: ``store-knows-less``: it is no pair that the store could take in.
        """
        return serving.site(in_force(self._settings), domain, now)

    def require_shown(self, site: Site) -> None:
        """Refuse a pair that nginx does not show in a handshake.

        Raises:
            Unreachable: ``store-knows-less``.
        """
        serving.require_shown(self._settings, site)

    def discard(self, domain: Domain) -> None:
        """Delete what was put aside of a domain that was taken out."""
        aside.discard(self._settings, domain)

    def preview(self, site: Site) -> Preview:
        """Render the server block of a site without writing it; or the link, when the catch-all serves it."""
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
        """Tell whether nginx's files say what the store says, byte for byte."""
        return in_force(self._settings).place_of(site).holds(site) and not self.preview(site).diff()

    def is_published(self, certificate: Certificate, mode: Mode | None) -> bool:
        """Tell whether the files are there by which nginx serves this version; what is in them is not read."""
        settings, site = in_force(self._settings), Site(certificate, Pem("", ""), mode)
        if not settings.has_block(site):
            return settings.catch_all_pairs.has_pair(certificate)
        is_there = settings.block_pairs.has_pair(certificate) or self.is_in_old_place(certificate, mode)
        return is_there and is_our_block(settings.block_path(certificate.domain))

    def is_in_old_place(self, certificate: Certificate, mode: Mode | None) -> bool:
        """Tell whether a server block reads its pair where a certctl before this one put it."""
        settings, site = in_force(self._settings), Site(certificate, Pem("", ""), mode)
        if not settings.has_block(site) or not settings.catch_all_pairs.has_pair(certificate):
            return False
        text = read(settings.block_path(certificate.domain)) or ""
        return f" {settings.catch_all_pairs.link(certificate.domain)}/" in text

    def preview_base(self) -> list[Preview]:
        """Render the base file, and the Lua file beside it, without writing them; the base file is the last."""
        wanted = base_files(self._settings, self._command)
        previews = [Preview(path, text or "", read(path) or "") for path, text in wanted.items()]
        return [preview for preview in previews if preview.text or preview.current]

    def install_base(self) -> Done:
        """Write the base file, let nginx test it, reload and prove that; take it back when nginx refuses.

        While nginx is not running, the tested file stays. One that serves no name without a server block comes only
        when each has one; no name gets a pair behind the catch-all meanwhile.

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
        """Refuse a mode in which nginx's workers could not read keys once it is reloaded.

        Raises:
            ConfigInvalid: ``keys-out-of-reach``, with the line that nginx's main file needs.
        """
        if self._settings.mode is not Mode.BLOCKS:
            access.require(self._settings, self._command, self._master)

    def set_rights(self) -> None:
        """Give the mirror the modes of directories and keys that this mode needs."""
        mirror.set_rights(self._settings.live, self._settings.wanted_rights)

    def is_included(self) -> bool:
        """Tell whether nginx's configuration includes our directory, base file or not."""
        return foresee.is_read(self._settings.config, self._settings.conf_dir)

    def reads(self, path: Path) -> bool:
        """Tell whether nginx's configuration includes what lies in the directory of a file."""
        return foresee.is_read(self._settings.config, path.parent)

    def foresee_base(self, *, will_be_included: bool) -> None:
        """Refuse to write a base file that nginx would not read, or not take.

        Raises:
            WebServerFailed: ``nginx-not-included``, ``nginx-conflict``, each with file and line.
        """
        if not will_be_included:
            foresee.require_included(self._settings)
        foresee.require_free(self._settings)

    def require_sound(self) -> None:
        """Refuse to call well what nginx would not start with.

        Raises:
            WebServerFailed: ``nginx-already-broken``.
        """
        verdict = self._command.test()
        if not (verdict.ok or verdict.is_environment):
            raise already_broken(verdict, self._settings)

    @property
    def is_reload_pending(self) -> bool:
        """Tell whether files changed that nginx has not provably read."""
        with as_root():
            return (self._settings.conf_dir / PENDING).exists()

    def force_reload(self) -> Done:
        """Test the configuration as it is, reload, and prove it, also when nothing of ours had changed.

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
        """Return the name of the group nginx's workers have: whoever they talk to on a socket must let it in."""
        named = mainconf.worker_group(self._settings.config)
        return named or mainconf.default_group(self._command.build)

    @property
    def unit(self) -> str:
        """Return the unit of systemd that runs nginx."""
        try:
            pid = self._master.pid()
        except WebServerFailed:
            pid = None
        return unit_of(pid, self._settings.binary)

    def footprint(self) -> Footprint | None:
        """Return what nginx's test needs of the disk; None where there is no nginx, so nobody can say.

        A configuration that fails its test is not shown by nginx: then its main file alone counts.

        Raises:
            WebServerFailed: ``nginx-missing``, there is one, but no service would find it.
        """
        try:
            dump, build = self._command.dump(), self._command.build
        except WebServerFailed as error:
            if error.seen:
                raise
            return None
        return footprint(dump if DUMPED in dump else read(self._settings.config) or "", build)

    def served(self, domain: Domain) -> str | None:
        """Return the SHA-256 of the leaf that is really served for a domain, or None; one handshake."""
        return handshake.look(self._settings, handshake.names_to_ask([domain.name])[0]).fingerprint

    def examine(self, names: Sequence[Domain] = ()) -> list[Finding]:
        """Look at nginx and our files for ``certctl doctor``; some names are asked for as the CA would."""
        answers = list(doctor.answers(self, names))  # first: its token is written as the state's owner
        with as_root():
            return doctor.examine(self._settings, self._command, self._master, answers)

    def _is_reachable(self) -> bool:
        """Tell whether there is an nginx to reload: one that listens nowhere yet is seen by its master alone."""
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
    """Return the domain a file of ours is named after; what does not parse was not made by us."""
    policy = NamePolicy(allow_private_names=True)
    try:
        return parse_wildcard(name, policy) if name.startswith("*.") else parse_domain(name, policy)
    except NameRejected:
        return None
