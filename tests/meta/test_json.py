"""What commands print with ``--json`` fits the published schemas, and has no key that they do not describe."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError
from referencing import Registry, Resource

from certctl.cli import run
from certctl.cli.framework import Invocation
from docs.generate import REFERENCE
from docs.schemas import BASE, DATA
from tests.fakes.dns_world import RESOLVER, TARGET, town

_CLOSED = {"unevaluatedProperties": False}


def strict(schema: Any) -> Any:
    """Return a schema in which every described object has no other keys than those."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: strict(value) for key, value in schema.items()}
    if schema.get("type") == "object" and "properties" in schema and "$id" not in schema:
        closed |= _CLOSED
    return closed


def published(name: str) -> dict[str, Any]:
    return dict(strict(json.loads((REFERENCE / "schema" / name).read_text(encoding="utf-8"))))


REGISTRY: Registry[Any] = Registry().with_resource(BASE, Resource.from_contents(published(BASE)))


def check(document: dict[str, Any]) -> None:
    command = document["schema"].removeprefix("certctl.").removesuffix("/1")
    own = command in DATA and "data" in document
    schema = published(f"certctl.{command}.schema.json" if own else BASE) | _CLOSED
    Draft202012Validator(schema, registry=REGISTRY, format_checker=FormatChecker()).validate(document)


def said(capsys: pytest.CaptureFixture[str], root: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run(["--json", "--root", str(root), *arguments], Invocation())
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("status", 0),
        ("status --timeline", 0),
        ("status status.example.com", 10),
        ("log", 0),
        ("explain", 0),
        ("explain dns-cname-mismatch", 0),
        ("explain nonsense", 2),
        ("config show", 0),
        ("config path", 0),
        ("config validate", 0),
        ("config schema", 0),
        ("completion bash", 0),
        ("renew", 0),
        ("renew --dry-run", 0),
        ("reconcile --dry-run", 0),
        ("issue single-label-only_ 192.0.2.1", 2),
        ("remove status.example.com", 10),
        ("confirm status.example.com", 10),
        ("publish status.example.com", 10),
        ("issue --no-such-option", 2),
        ("timer status", 0),
        ("timer install --dry-run", 0),
        ("timer remove", 0),
        ("serve --install --dry-run", 10),
        ("serve --uninstall", 0),
        ("sandbox status", 10),
    ],
)
def test_a_command_prints_one_document_that_fits_its_schema(
    command: str, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, document = said(capsys, tmp_path, *command.split())
    check(document)
    assert ended == code
    assert document["ok"] is (code == 0)


def test_a_broken_configuration_is_one_document_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "etc/certctl/config.toml"
    file.parent.mkdir(parents=True)
    file.write_text('[dns]\ntaget = "pages.example.net"\n[ca]\nemail = 3\n', encoding="utf-8")
    ended, document = said(capsys, tmp_path, "status")
    check(document)
    assert (ended, document["error"]["code"], len(document["error"]["seen"])) == (10, "config-invalid", 2)


@pytest.mark.parametrize(
    ("end", "code", "verdict"),
    [(f"{TARGET}.", 0, "right"), ("old.example.net.", 3, "different")],
)
def test_verify_gives_its_records_as_data(
    end: str, code: int, verdict: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with town(tmp_path) as world:
        world.add("status.acme.com", "CNAME", end)
        file = tmp_path / "etc/certctl/config.toml"
        file.parent.mkdir(parents=True)
        port = world.server.port
        keys = f'target = "{TARGET}"\nresolvers = ["{RESOLVER}:{port}"]\nauthoritative_port = {port}\n'
        file.write_text(f"[dns]\n{keys}", encoding="utf-8")
        ended, document = said(capsys, tmp_path, "verify", "status.acme.com")
    check(document)
    assert ended == code
    assert document["results"][0]["records"] == [
        {
            "type": "CNAME",
            "host": "status",
            "fqdn": "status.acme.com",
            "value": f"{TARGET}.",
            "verdict": verdict,
            "seen": [end],
        }
    ]


def test_a_key_nobody_described_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, document = said(capsys, tmp_path, "config", "path")
    for place in (document, document["data"]):
        place["extra"] = 1
        with pytest.raises(ValidationError):
            check(document)
        del place["extra"]
    check(document)
