"""The history and the ledger are kept for 400 days, and as long as they count."""

from datetime import timedelta
from itertools import islice

from certctl.budget import LETS_ENCRYPT
from certctl.io.stop import stopping
from certctl.world import World

KEPT = timedelta(days=400)
_MOST = 200
_IDLE = timedelta(days=100)


def prune(world: World) -> int:
    """Delete what is old and counts no more, in small transactions; a run leaves the rest of many to the next.

    Returns how many rows went. By a clock that is far ahead of the last thing that happened nothing is old: it may
    be wrong.
    """
    now = world.clock.now()
    last = next(iter(world.store.events(None, 1)), None)
    if last is None or now - last.at > _IDLE:
        return 0
    gone = 0
    for taken in islice(world.store.prune(now - KEPT, {**LETS_ENCRYPT, **world.limits}, now), _MOST):
        gone += taken
        if stopping.is_set():
            break
    return gone
