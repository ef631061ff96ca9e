# ruff: noqa: INP001 - a script's neighbour, not a package
"""The JSON Schemas of ``--json``: one envelope for all commands, and what ``data`` holds for those that have it.

Names, steps, states and slugs come from the code. Keys are only ever added, so other keys are not forbidden here;
tests forbid them, which proves that every key a command prints is described.
"""

from typing import Any

from certctl.app.condition import CONDITIONS
from certctl.budget import Bucket
from certctl.dns_records import RecordVerdict
from certctl.errors import CATALOGUE, ExitCode, Who
from certctl.notify.message import SCHEMA, AlertKind
from certctl.sandbox.approval_server import Mode as Behaviour
from certctl.sandbox.state import Addresses
from certctl.sandbox.zone_file import Fault
from certctl.stories.result import Step
from certctl.timer.files import Condition
from certctl.txt_records import OrderOrigin
from certctl.values import Level, Mode, State

Schema = dict[str, Any]

BASE = "certctl.schema.json"
MESSAGE = "certctl.event.schema.json"
WITH_RESULTS = frozenset(
    {
        "issue",
        "wildcard",
        "obtain",
        "verify",
        "approval",
        "publish",
        "confirm",
        "renew",
        "remove",
        "status",
        "reconcile",
    }
)
"""Commands about domains; ``status --timeline`` and ``reconcile --dry-run`` have ``data`` instead."""

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_TEXT: Schema = {"type": "string"}
_FLAG: Schema = {"type": "boolean"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _object(properties: Schema, optional: tuple[str, ...] = (), **more: Any) -> Schema:  # noqa: ANN401 - JSON Schema's own words
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties, **more}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


_ERROR = _object(
    {
        "code": {"enum": list(CATALOGUE), "description": "stable slug; 'certctl explain' knows it"},
        "who": {"enum": [str(who) for who in Who], "description": "who has to act"},
        "message": _TEXT,
        "seen": _list(_TEXT),
        "expected": _list(_TEXT),
        "next": _list(_TEXT) | {"description": "commands to type, most useful first"},
        "retryable": _FLAG,
        "retry_after": {"type": ["integer", "null"], "description": "seconds"},
        "quota_used": _FLAG | {"description": "whether the CA's limits were spent"},
    }
)
_CERTIFICATE = _object(
    {
        "serial": {"type": "string", "pattern": "^[0-9a-f]+$"},
        "issuer": _TEXT,
        "not_before": _TIME,
        "not_after": _TIME,
        "names": _list(_TEXT),
        "key_type": _TEXT,
        "fingerprint_sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    }
)
_STEP = _object({"name": {"enum": [str(step) for step in Step]}, "ok": _FLAG, "ms": _COUNT, "detail": _TEXT})
_DEMAND = _object(
    {
        "name": _TEXT,
        "type": {"const": "TXT"},
        "ttl": _COUNT,
        "values": _list(_TEXT) | {"description": "all of them, at the same time"},
        "until": _or_null(_TIME) | {"description": "when the CA forgets the order"},
        "order": {"enum": [opened.name.lower() for opened in OrderOrigin]},
    }
) | {"description": "what a person must put into DNS: 'wildcard --begin' only"}
_RECORD = _object(
    {
        "type": _TEXT
        | {"description": "such as CNAME, A or CAA; ALIAS stands for what some providers offer at an apex"},
        "host": _TEXT | {"description": "the name as DNS forms want it, '@' for the registered domain"},
        "fqdn": _TEXT | {"description": "the name in full, without the final dot"},
        "value": _TEXT | {"description": "in zone file form"},
        "verdict": {"enum": [str(verdict) for verdict in RecordVerdict]},
        "seen": _list(_TEXT) | {"description": "values found under that name, at most eight"},
    }
)
_RESULT = _object(
    {
        "domain": _TEXT,
        "ok": _FLAG,
        "changed": _FLAG | {"description": "whether this run changed anything for the domain"},
        "state": {
            "enum": [*dict.fromkeys([*map(str, State), *map(str, CONDITIONS)]), None],
            "description": "'status' adds its own words",
        },
        "certificate": _or_null(_ref("certificate")),
        "steps": _list(_ref("step")),
        "error": _or_null(_ref("error")),
        "attempts": _COUNT | {"description": "'status' only: failures at the CA since the last success"},
        "since": _TIME
        | {"description": "'status' only: since when it is pending, active, moved, unwanted or removed"},
        "demand": _DEMAND,
        "still_approved": _FLAG | {"description": "'remove' only: whether the operator would approve it again"},
        "records": _list(_RECORD) | {"description": "the DNS records that are wanted, or that prove the domain"},
        "warnings": _list(_ref("error")) | {"description": "what somebody should mend although it stopped nothing"},
    },
    optional=("attempts", "since", "demand", "still_approved", "records", "warnings"),
)
_SERVE = _object(
    {
        "since": _TIME,
        "mode": {"enum": [str(mode) for mode in Mode], "description": "the mode it was started in"},
        "waiters": _COUNT,
        "flights": _COUNT,
        "orders": _COUNT,
        "first_hit": _object(
            {
                "count": _COUNT,
                "p50_ms": {"type": ["integer", "null"], "description": "of the last 500"},
                "p95_ms": {"type": ["integer", "null"]},
            }
        ),
        "answers": {"type": "object", "additionalProperties": _COUNT, "description": "how often each was given"},
        "reasons": {"type": "object", "additionalProperties": _COUNT, "description": "by slug"},
        "refusing": {"type": ["string", "null"], "description": "slug of why no name is taken on"},
        "store_up": _FLAG,
        "last_error": _or_null(_object({"code": _TEXT, "at": _TIME})),
    }
)
_GROUP = _object(
    {
        "key": _TEXT | {"description": "the slug, who has to act, or the state"},
        "count": _COUNT,
        "oldest": _TIME | {"description": "since when the one that is so for the longest time is in its state"},
        "example": _TEXT | {"description": "its name"},
        "who": {"enum": [*map(str, Who), None], "description": "who has to act; null where that differs"},
    }
)
_ENVELOPE: Schema = {
    "$schema": _DRAFT,
    "$id": BASE,
    "title": "What every certctl command prints with --json",
    "description": "Exactly one document on stdout, also on failure. Keys are only ever added.",
    "type": "object",
    "required": ["schema", "ok"],
    "anyOf": [{"required": ["results"]}, {"required": ["data"]}],
    "properties": {
        "schema": {"type": "string", "pattern": "^certctl\\.[a-z-]+/1$"},
        "ok": _FLAG,
        "results": _list(_ref("result")) | {"description": "one entry per domain"},
        "summary": _object({"total": _COUNT, "ok": _COUNT, "failed": _COUNT, "changed": _COUNT}),
        "data": {"description": "the result of a command that is about no domain"},
        "serve": _or_null(_SERVE) | {"description": "of 'status': what the daemon says; null when it says nothing"},
        "by": {"enum": ["code", "who", "state"], "description": "of 'status --by'"},
        "groups": _list(_GROUP) | {"description": "of 'status --by': what fails alike, most first"},
        "error": _ref("error") | {"description": "what ended the whole run, before or beside any domain"},
    },
    "$defs": {"error": _ERROR, "certificate": _CERTIFICATE, "step": _STEP, "result": _RESULT},
}

_EVENT = _object(
    {
        "at": _TIME,
        "domain": _TEXT,
        "step": _TEXT,
        "ok": _FLAG,
        "code": {"type": ["string", "null"]},
        "detail": _TEXT,
    }
)
_EXPLANATION = _object(
    {
        "code": {"enum": list(CATALOGUE)},
        "exit_code": {"enum": [int(code) for code in ExitCode]},
        "who": {"enum": [str(who) for who in Who]},
        "retryable": _FLAG,
        "summary": _TEXT,
        "text": _TEXT,
    }
)
_FINDING = _object({"area": _TEXT, "level": {"enum": [str(level) for level in Level]}, "text": _TEXT, "fix": _TEXT})
_SANDBOX = _object(
    {key: {"type": ["string", "null"]} for key in Addresses.__dataclass_fields__}
    | {"running": _FLAG, "parts": {"type": "object", "additionalProperties": _FLAG}}
)
_APPROVALS = _object({"mode": {"enum": [str(behaviour) for behaviour in Behaviour]}, "approved": _list(_TEXT)})
_RECORD = _object({"name": _TEXT, "type": _TEXT, "value": _TEXT, "ttl": _COUNT, "only": _TEXT})
_FAULT = _object(
    {
        "name": _TEXT,
        "fault": {"enum": [str(fault) for fault in Fault]},
        "type": _TEXT,
        "only": _TEXT,
        "seconds": {"type": "number", "minimum": 0},
    }
)
_DNS_WORLD = _object(
    {
        "zones": {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _TEXT}},
        "records": _list(_RECORD),
        "faults": _list(_FAULT),
    }
)
_RUN = _object({"at": _TIME, "result": _TEXT, "exit_code": _or_null(_COUNT)})
_MAYBE: Schema = {"type": ["boolean", "null"], "description": "null where systemd was not asked"}
_FILES = _list(_object({"path": _TEXT, "condition": {"enum": [str(condition) for condition in Condition]}}))
_TIMER: Schema = {
    "scheduler": {"enum": ["systemd", "cron"]},
    "installed": _FLAG,
    "enabled": _MAYBE,
    "active": _MAYBE,
    "next_run": _or_null(_TIME),
    "last_run": _or_null(_RUN),
    "files": _FILES,
    "root": _TEXT,
}
_SETTINGS: Schema = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": True}}

DATA: dict[str, Schema] = {
    "completion": _object({"shell": {"enum": ["bash", "zsh", "fish"]}, "script": _TEXT}),
    "config-path": _object({"file": _TEXT, "exists": _FLAG}),
    "config-schema": {"type": "object", "additionalProperties": True, "description": "a JSON Schema"},
    "config-show": _SETTINGS,
    "config-validate": _object({"file": _TEXT, "valid": _FLAG}),
    "doctor": _list(_FINDING),
    "explain": {"anyOf": [_EXPLANATION, _list({"enum": list(CATALOGUE)})]},
    "init": {"anyOf": [_object({"would_write": _list(_TEXT)}), _object({"wrote": _list(_TEXT)})]},
    "budget": _list(
        _object(
            {
                "bucket": {"enum": list(Bucket)},
                "key": _TEXT,
                "capacity": {"type": "integer"},
                "left": {"type": "number"},
                "next": _TEXT,
                "retry_after": {"type": "integer"},
                "kept_from_bulk": _COUNT,
                "kept_from_first_visits": _COUNT,
            }
        )
    ),
    "log": _list(_EVENT),
    "reconcile": _object(
        {"publish": _list(_TEXT), "remove": _list(_TEXT), "unknown": _list(_TEXT)}, description="with --dry-run"
    ),
    "reload": _object({"changed": _FLAG, "detail": _TEXT}),
    "sandbox-approve": _APPROVALS,
    **{f"sandbox-dns-{name}": _DNS_WORLD for name in ("add", "remove", "fail", "heal", "list")},
    **{f"sandbox-{name}": _SANDBOX for name in ("up", "down", "status")},
    "serve": {
        "anyOf": [
            _object({"dry_run": _FLAG, "changed": _FLAG, "diff": _TEXT, "files": _FILES}),
            _object({"changed": _FLAG, "removed": _list(_TEXT), "files": _FILES}),
            _object({"stopped": _FLAG}, description="without either, at the daemon's end"),
        ],
    },
    "timer-install": _object(
        {"dry_run": _FLAG, "changed": _FLAG, "diff": _TEXT} | _TIMER | {"notes": _list(_TEXT)}
    ),
    "timer-remove": _object({"changed": _FLAG, "removed": _list(_TEXT), "kept": _list(_TEXT)}),
    "timer-status": _object(_TIMER),
    "status": _list(_object({"week": _TEXT, "expiring": _COUNT})) | {"description": "with --timeline"},
}
"""What is under ``data``, by the command's name in ``schema``."""


_ALERT = _object(
    {
        "event": {"enum": [str(what) for what in AlertKind]},
        "domain": _TEXT,
        "code": {"enum": [*CATALOGUE, None], "description": "stable slug of the error"},
        "who": {"enum": [*map(str, Who), None], "description": "who has to act"},
        "message": {"type": ["string", "null"]},
        "next": _list(_TEXT) | {"description": "commands to type, most useful first"},
        "not_after": _or_null(_TIME),
        "days_left": {"type": ["integer", "null"], "description": "of the certificate in force"},
        "attempts": _COUNT | {"description": "failures at the CA since the last success"},
        "retry_at": _or_null(_TIME),
    }
)
_MESSAGE: Schema = {
    "$schema": _DRAFT,
    "$id": MESSAGE,
    "title": "What [notify] command and webhook get",
    "description": "One document about one run, only when there is something to tell. Keys are only ever added.",
    **_object(
        {
            "schema": {"const": SCHEMA},
            "host": _TEXT,
            "command": _TEXT,
            "at": _TIME,
            "ok": _FLAG,
            "exit_code": {"enum": [int(code) for code in ExitCode]},
            "text": _TEXT | {"description": "all of it in a few lines, which chat services show"},
            "total": _COUNT,
            "events": _list(_ALERT) | {"description": "the first hundred"},
        }
    ),
}


def schemas() -> dict[str, Schema]:
    """Return every schema by its file name."""
    return {BASE: _ENVELOPE, MESSAGE: _MESSAGE} | {
        f"certctl.{name}.schema.json": _of(name, data) for name, data in DATA.items()
    }


def _of(name: str, data: Schema) -> Schema:
    return {
        "$schema": _DRAFT,
        "$id": f"certctl.{name}.schema.json",
        "title": f"certctl {name.replace('-', ' ')} --json",
        "allOf": [{"$ref": BASE}],
        "properties": {"schema": {"const": f"certctl.{name}/1"}, "data": data},
    }
