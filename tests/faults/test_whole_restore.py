"""What a backup or a hand brought back to nginx's directory: one run of any name puts it in order."""

import shutil
from pathlib import Path

import pytest

from tests.faults.whole import Watch

pytestmark = pytest.mark.e2e


def removed_and_restored(watch: Watch, name: str) -> Path:
    """Issue and remove a name, and put its server block back as from a backup."""
    watch.sandbox.must("issue", name)
    block = watch.sandbox.layout.conf_dir / f"{name}.conf"
    backup = block.read_bytes()
    watch.sandbox.must("remove", name)
    block.write_bytes(backup)
    return block


def test_a_block_of_a_name_removed_since_the_backup_stops_no_run_and_is_put_aside(watch: Watch) -> None:
    left, new = watch.customers("restored", 2)
    block = removed_and_restored(watch, left)
    said = watch.sandbox.must("issue", new).err
    assert f"{left} put aside, for its pair was gone" in said
    assert not block.exists()
    assert not watch.is_served(left)
    watch.all_is_well([new])


def test_reconcile_clears_such_blocks_away_in_one_run_and_says_so(watch: Watch) -> None:
    left, stray = watch.customers("reconciled", 2)
    block = removed_and_restored(watch, left)
    block.with_name(f"{stray}.conf").write_text(block.read_text().replace(left, stray))
    said = watch.sandbox.must("reconcile").out
    assert f"{left}: taken out\n" in said
    assert f"{stray}: taken out\n" in said
    watch.all_is_well([])


def test_a_pair_that_is_gone_comes_back_from_the_store_with_the_next_run_of_another_name(watch: Watch) -> None:
    lost, new = watch.customers("lost", 2)
    watch.sandbox.must("issue", lost)
    shutil.rmtree(watch.root / "var/lib/certctl-sites" / lost)
    said = watch.sandbox.must("issue", new).err
    assert f"{lost} published again, for its pair was gone" in said
    watch.all_is_well([lost, new])


def test_who_is_removed_leaves_the_pair_that_the_operators_own_block_reads(watch: Watch) -> None:
    (name,) = watch.customers("read-elsewhere", 1)
    watch.sandbox.must("issue", name)
    pair = watch.root / "var/lib/certctl-sites" / name / "current"
    https = watch.sandbox.addresses["https"].rpartition(":")[2]
    theirs = watch.sandbox.layout.conf_dir / "theirs.conf"
    theirs.write_text(
        f"server {{ listen 127.0.0.1:{https} ssl; server_name own.example.com;\n"
        f"ssl_certificate {pair}/fullchain.pem; ssl_certificate_key {pair}/privkey.pem; }}\n"
    )
    try:
        watch.sandbox.must("remove", name)
        watch.nobody_is_harmed()
    finally:
        theirs.unlink()
    watch.sandbox.must("remove", name)
    assert not pair.exists()
    watch.all_is_well([])
