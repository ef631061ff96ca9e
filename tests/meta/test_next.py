"""Every step an error calls next leads somewhere: a test follows it, or it stands here with the reason why not."""

import ast
import re
import shlex
from pathlib import Path

import click
import pytest

from certctl.cli import root
from certctl.cli.framework import Invocation
from certctl.errors import CATALOGUE
from tests.contract import test_next as on_a_host
from tests.e2e import test_next as in_a_sandbox
from tests.meta.source import ROOT, Module, module, modules
from tests.meta.test_docs import SENTENCES, commands_said
from tests.next_steps import without_prose

# Errors whose next step another test follows: the file, and the test in it.
ELSEWHERE = {
    "needs-root": ("tests/contract/test_needs_root.py", "test_the_line_it_names_works"),
    "nginx-not-included": ("tests/contract/test_init.py", "test_the_line_it_names_is_the_line_it_needs"),
    "nginx-conflict": (
        "tests/contract/test_init.py",
        "test_the_clash_of_default_servers_is_foreseen_with_its_line_before_anything_is_written",
    ),
    "nginx-not-running": ("tests/host/test_next.py", "test_nginx_not_running_leads_to_a_running_one"),
    "nginx-challenge-intercepted": (
        "tests/host/test_next.py",
        "test_nginx_challenge_intercepted_leads_to_the_file_that_does_it",
    ),
    "keys-out-of-reach": (
        "tests/host/test_next.py",
        "test_keys_out_of_reach_leads_through_the_line_it_shows_to_the_move",
    ),
    "store-knows-less": (
        "tests/faults/test_whole_unknown.py",
        "test_a_store_that_lost_names_takes_nobody_out_and_what_is_next_brings_all_back",
    ),
    "store-row-damaged": ("tests/unit/test_damaged_rows.py", "test_the_fix_that_is_named_works"),
    "interrupted": ("tests/faults/test_whole_crash.py", "whole: reconcile after every kill"),
}

_THE_NAME = "the name itself must be another one; the explanation, which is all that is next, is printed in a test"
_THE_CA = (
    "takes a CA that fails so; the next step is 'certctl doctor' or 'certctl verify', followed for other errors"
)
_WAIT = "there is nothing to type but the explanation: it ends by itself, or the CA's page ends it"
_HOST = (
    "takes an nginx, a systemd or rights that a test host has not; its steps are nginx's or systemd's own commands"
)
UNFOLLOWED = {
    **{slug: _THE_NAME for slug in CATALOGUE if slug.startswith("name-") and slug != "name-own-zone"},
    **dict.fromkeys(
        (
            "ca-dns", "ca-connection", "ca-unauthorized", "ca-caa", "ca-rejected-identifier", "ca-refused",
            "ca-account", "ca-bad-certificate", "ca-unrecognised", "ca-challenge-missing", "ca-challenge-aborted",
            "ca-unreachable", "ca-timeout", "ca-bad-nonce", "clock-wrong",
        ),
        _THE_CA,
    ),
    **dict.fromkeys(("ca-rate-limited", "ca-paused", "busy", "serve-busy", "removed-lately"), _WAIT),
    **dict.fromkeys(
        (
            "nginx-reload-failed", "nginx-not-served", "nginx-cannot-test", "nginx-timeout", "missing-account",
            "timer-failed", "serve-ended", "certbot-killed",
        ),
        _HOST,
    ),
    "internal": "a bug of ours: the same command with -vv, and then us",
    "dns-stray-ipv6": "the steps of dns-address-mismatch, which are followed",
    "dns-cname-loop": "the steps of dns-cname-mismatch, which are followed",
    "dns-servfail": "the steps of dns-no-data, which are followed",
    "dns-disagree": "the steps of dns-no-data, which are followed",
    "caa-servfail": "the steps of caa-forbids, which are followed",
    "dns-delegation": "'certctl wildcard ZONE --dns manual' waits for a person: tests/e2e/test_wildcard.py",
    "dns-target-broken": "'certctl doctor' asks for the target, as for dns-unreachable, which is followed",
    "approval-denied-locally": "'certctl config show', which is followed for nginx-missing",
    "approval-approves-everything": "'certctl doctor' asks the same; tests/contract/test_approval.py",
    "budget-exhausted": "'certctl budget', which tests/unit/test_budget.py reads",
    "backing-off": "'certctl log' and the command itself with --force, which spends an order",
    "missing-program": "takes a host without a program that the tests need; its steps install it",
    "wildcard-manual": "'certctl wildcard ZONE' waits for a person; tests/e2e/test_wildcard.py plays one",
    "wildcard-not-begun": "'certctl wildcard ZONE --begin', which tests/e2e/test_wildcard_acme.py does first",
    "sandbox-failed": "'certctl sandbox up', which every end-to-end test does",
}  # fmt: skip


# Options that are put together at run time; tests/contract/test_init.py reads and types them.
COMPOSED = {"certctl init X"}


def test_each_errors_next_step_is_followed_or_has_a_reason_why_not() -> None:
    followed = {*on_a_host.CASES, *in_a_sandbox.CASES, *ELSEWHERE}
    assert set(CATALOGUE) - followed - set(UNFOLLOWED) == set(), "follow what it calls next, or say why not"
    assert followed - set(CATALOGUE) == set(), "there is no such error"
    assert followed & set(UNFOLLOWED) == set(), "it is followed now"


@pytest.mark.parametrize("slug", [slug for slug, (_, test) in ELSEWHERE.items() if ":" not in test])
def test_the_tests_named_here_exist(slug: str) -> None:
    file, test = ELSEWHERE[slug]
    assert f"def {test}(" in (ROOT / file).read_text(encoding="utf-8")


def test_every_file_a_reason_names_exists() -> None:
    for reason in UNFOLLOWED.values():
        for path in re.findall(r"tests/[\w/]+\.py", reason):
            assert Path(ROOT, path).exists(), path


def refused(text: str) -> str | None:
    """Let click's own parser read a command as it would be typed; X stands for what is filled in at run time."""
    words = shlex.split(without_prose(text).removeprefix("sudo "))[1:]
    words = [re.sub(r"\{\w*\}", "X", word) for word in words]
    context = click.Context(root, obj=Invocation(), info_name="certctl")
    command: click.Command = root
    try:
        while isinstance(command, click.Group):
            if not words or words[0].startswith("--"):
                return None if words in (["--help"], ["--version"]) else f"{text!r} ends at a group"
            if words[0].isupper():
                return None
            _, found, words = command.resolve_command(context, words)
            assert found, text
            command = found
            context = click.Context(command, parent=context, info_name=command.name)
        if words != ["--help"]:
            command.parse_args(context, [*words])
    except click.BadParameter as error:
        said = error.format_message()
        return None if "'X' is not one of" in said or "no error 'X'" in said else f"{text!r}: {said}"
    except click.UsageError as error:
        return f"{text!r}: {error.format_message()}"
    return None


def steps(source: Module) -> list[str]:
    """Return every command a module names; half a text, with the rest in another, ends in a space."""
    said = [text for text in commands_said(source) if text.split()[1] not in SENTENCES]
    return [text for text in said if not text.endswith(" ") and text not in COMPOSED]


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name or "certctl")
def test_clicks_own_parser_takes_every_command_that_the_code_tells_people_to_type(source: Module) -> None:
    assert [wrong for text in steps(source) if (wrong := refused(text))] == []


@pytest.mark.parametrize("source", modules(), ids=lambda source: source.name or "certctl")
def test_no_finding_of_the_doctors_sends_back_to_the_doctor(source: Module) -> None:
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in {"Finding", "_problem"}
        ):
            last = node.args[-1] if node.args else None
            assert not (isinstance(last, ast.Constant) and last.value == "certctl doctor"), ast.unparse(node)


def test_the_parser_notices() -> None:
    assert refused("certctl init --target")
    assert refused("certctl issue")
    assert refused("certctl issue --wait soon X")
    assert refused("certctl explain a b")
    assert refused("certctl explain dns-servfial")
    assert not refused("certctl issue X --wait 30m")
    assert not refused("sudo certctl doctor --fix")
    assert steps(module("x", 'y = ["certctl doctor"]\n'))
