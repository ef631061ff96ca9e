"""A transaction over the files nginx reads: journal, swap, one test of the whole, and rollback."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from certctl.errors import CertctlError, ConfigInvalid
from certctl.io.files import PUBLIC, make_directory, reason, swap_symlink, sync_directory, write_atomic, writing
from certctl.io.fsuid import as_root
from certctl.nginx import probe
from certctl.nginx.command import ConfigTest, NginxCommand
from certctl.nginx.errors import already_broken, conflict, reload_failed, test_failed, timed_out
from certctl.nginx.master import Master
from certctl.nginx.rollback import Rollback, undisturbed
from certctl.nginx.settings import NginxSettings
from certctl.slugs import Slug

PENDING = ".reload-pending"
_LAST_RELOAD = ".last-reload"


@dataclass(frozen=True, slots=True)
class Swap:
    """The files and links that a transaction replaces or removes.

    Attributes:
        files: Path → text; None removes the file.
        links: Link → target; None removes the link.
        created: Directories of the mirror that ``stage`` makes; no link points to them yet.
        stage: Makes these directories.
        names: The names these files serve; nginx's conflict warning about one of them is a failure.
    """

    files: Mapping[Path, str | None]
    links: Mapping[Path, str | None] = field(default_factory=dict)
    created: Sequence[Path] = ()
    stage: Callable[[], None] = lambda: None
    names: AbstractSet[str] = frozenset()

    @property
    def pointed(self) -> dict[Path, str]:
        """Return (link → target) of the links that are set."""
        return {link: target for link, target in self.links.items() if target is not None}

    @property
    def dropped(self) -> list[Path]:
        """Return the links that are removed."""
        return [link for link, target in self.links.items() if target is None]


class Transaction:
    """Keeps the previous files until a change is proven; it must be used under nginx's lock."""

    def __init__(self, settings: NginxSettings, command: NginxCommand, master: Master) -> None:
        self._settings = settings
        self._command = command
        self._master = master
        self._undo = Rollback(settings.live, settings.sites, settings.conf_dir)
        self._pending = settings.conf_dir / PENDING
        self._was_pending = False
        self._signalled = False

    def begin(self) -> None:
        """Create our directories, and roll back what a killed run left untested."""
        with writing(self._settings.live):
            self._settings.catch_all_pairs.make()
            self._settings.block_pairs.make()
            with as_root():
                make_directory(self._settings.conf_dir, 0o755)
            if self._undo.recover():
                self._set_pending()
            probe.sweep(self._settings)
        self._was_pending = self.is_reload_pending

    @property
    def is_reload_pending(self) -> bool:
        """Tell whether files have changed since nginx provably read them."""
        with as_root():
            return self._pending.exists()

    def swap(self, swap: Swap) -> None:
        """Put new files and links in place, and let nginx test the whole configuration once.

        Raises:
            WebServerFailed: nginx refused it. The previous files are back, byte for byte.
            ConfigInvalid: ``state-unwritable``, likewise.
        """
        with self._or_restore():
            self._undo.remember((*swap.pointed, *swap.files, *swap.dropped), swap.created)
            self._set_pending()
            swap.stage()
            self._put(swap)
            verdict = self._command.test()
            if verdict.ok and not verdict.conflicts & swap.names:
                self._undo.keep()
                return
        self._restore()
        self._explain(verdict, swap.names, set(swap.files))

    def reload(self) -> float:
        """Reload nginx, prove it, and return the seconds it took.

        Raises:
            WebServerFailed: ``nginx-not-running``, ``nginx-reload-failed``; ``nginx-already-broken`` when a file
                of others changed since the last test.
        """
        self._signalled = True
        try:
            outcome = self._master.reload()
        except CertctlError:
            self._signalled = bool(self._settings.reload_command)  # one that failed may have stopped nginx
            raise
        if not outcome.took:
            # Where nginx said no it runs what it ran before; where it was silent it may still come round.
            self._signalled = not outcome.kept_old
            verdict = self._command.test()
            if outcome.kept_old and not verdict.ok and not verdict.is_environment:
                raise already_broken(verdict, self._settings)
            raise reload_failed(outcome)
        with suppress(OSError):
            self._clear_pending()
            write_atomic(self._settings.live / _LAST_RELOAD, f"{outcome.seconds:.3f}\n")
        return outcome.seconds

    def give_up(self, error: BaseException) -> None:
        """Roll the change back after an exception, and reload again if nginx was told of the change.

        While nginx is not running, tested files stay, for nginx to read when it starts.
        """
        if self._undo.is_empty:
            return
        if isinstance(error, CertctlError) and error.kind.keeps_change:
            self.settle()
            return
        with undisturbed():
            if self._signalled:
                with suppress(OSError):  # before the files are back, in case we are killed then
                    self._set_pending()
            self._restore()
            if self._signalled:
                self._set_pending()
                with suppress(CertctlError):  # the first error is the news; the marker makes the next run retry
                    self.reload()

    def settle(self) -> None:
        """Keep the change: the previous files are removed."""
        with suppress(OSError):
            self._undo.drop()

    def _put(self, swap: Swap) -> None:
        """Swap links before files, and remove links after them: no server block may name a missing pair."""
        for link, version in swap.pointed.items():
            with self._reached(link):
                swap_symlink(link, version)
        with as_root():
            for path, text in swap.files.items():
                if text is None:
                    path.unlink()
                else:
                    write_atomic(path, text, PUBLIC)
            sync_directory(self._settings.conf_dir)
        for link in swap.dropped:
            with self._reached(link):
                link.unlink()
                sync_directory(link.parent)

    def _reached(self, link: Path) -> AbstractContextManager[None]:
        blocks = self._settings.block_pairs
        return (blocks if link.is_relative_to(blocks.path) else self._settings.catch_all_pairs).reached()

    @as_root()
    def _set_pending(self) -> None:
        self._pending.touch(0o600)

    @as_root()
    def _clear_pending(self) -> None:
        self._pending.unlink(missing_ok=True)

    @contextmanager
    def _or_restore(self) -> Iterator[None]:
        try:
            with writing(self._settings.conf_dir):
                yield
        except BaseException:
            self._restore()
            raise

    def _restore(self) -> None:
        try:
            with undisturbed():
                self._undo.restore()
                if not self._was_pending and not self._signalled:
                    self._clear_pending()
        except OSError as error:
            raise ConfigInvalid(
                Slug.STATE_UNWRITABLE,
                f"the previous files could not all be put back ({reason(error, self._settings.conf_dir)}); "
                "the next run tries again",
                next=["certctl reconcile", "certctl doctor"],
            ) from error

    def _explain(self, verdict: ConfigTest, names: AbstractSet[str], ours: AbstractSet[Path]) -> None:
        """Raise the error for nginx's refusal, after the previous files were restored.

        A second test shows whether nginx refuses them as well; then our change is not the cause.
        """
        if verdict.timed_out:
            raise timed_out(self._settings)
        if verdict.ok:
            raise conflict(min(verdict.conflicts & names), self._command.dump(), ours)
        again = self._command.test()
        if not again.ok:
            raise already_broken(again, self._settings)
        raise test_failed(verdict, self._command.dump(), ours)


def last_reload(live: Path) -> float | None:
    """Return the seconds that the last proven reload took; None when there was none."""
    try:
        return float((live / _LAST_RELOAD).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
