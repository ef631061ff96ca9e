"""The JSON and the exit code that say what became of the domains of a run (docs/reference/json.md)."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from certctl.dns_records import DnsRecord
from certctl.errors import CertctlError, ExitCode
from certctl.formats import rfc3339
from certctl.io.escape import one_line
from certctl.stories.result import JourneyResult
from certctl.txt_records import TxtDemand
from certctl.values import Certificate

FailurePredicate = Callable[[JourneyResult], bool]
"""Decides whether a run fails because of one domain."""


def failed(result: JourneyResult) -> bool:
    """Tell whether a run over named domains fails for this result: it does for every error."""
    return not result.ok


def fails_timer_run(result: JourneyResult) -> bool:
    """Tell whether a timer's run over all domains fails for this result: see ``JourneyResult.fails_timer_run``."""
    return result.fails_timer_run


def exit_code(
    results: Iterable[JourneyResult], fails: FailurePredicate = failed, beside: CertctlError | None = None
) -> ExitCode:
    """Return the exit code that all failures share, FAILED when they differ, DONE when there are none.

    ``beside`` is an error of the run as a whole, which belongs to none of its domains.
    """
    codes = {o.error.exit_code for o in results if o.error and fails(o)} | ({beside.exit_code} if beside else set())
    if not codes:
        return ExitCode.DONE
    return codes.pop() if len(codes) == 1 else ExitCode.FAILED


def document(
    command: str,
    results: Sequence[JourneyResult],
    fails: FailurePredicate = failed,
    beside: CertctlError | None = None,
) -> dict[str, Any]:
    """Build the envelope of contract version 1; ``ok`` at the top says the same as the exit code."""
    failures = sum(not o.ok for o in results)
    return {
        "schema": f"certctl.{command}/1",
        "ok": not (beside or any(map(fails, results))),
        "results": [_result(o) for o in results],
        "summary": {
            "total": len(results),
            "ok": len(results) - failures,
            "failed": failures,
            "changed": sum(o.changed for o in results),
        },
        **({"error": error_json(beside)} if beside else {}),
    }


def _result(o: JourneyResult) -> dict[str, Any]:
    return {
        "domain": one_line(o.domain),
        "ok": o.ok,
        "changed": o.changed,
        "state": o.state,
        "certificate": certificate_json(o.certificate) if o.certificate else None,
        "steps": [{"name": s.name, "ok": s.ok, "ms": s.ms, "detail": one_line(s.detail)} for s in o.steps],
        "error": error_json(o.error) if o.error else None,
        **({"attempts": o.listed.attempts, "since": rfc3339(o.listed.since)} if o.listed else {}),
        **({"demand": _demand_json(o.demand)} if o.demand else {}),
        **({} if o.still_approved is None else {"still_approved": o.still_approved}),
        **({"records": [_record_json(record) for record in o.records]} if o.records else {}),
        **({"warnings": [error_json(warning) for warning in o.warnings]} if o.warnings else {}),
    }


def _demand_json(demand: TxtDemand) -> dict[str, Any]:
    """Return the TXT records that must be put into DNS, as a JSON object for scripts."""
    return {
        "name": one_line(demand.sight.owner),
        "type": "TXT",
        "ttl": demand.ttl,
        "values": [one_line(value) for value in demand.values],
        "until": rfc3339(demand.until) if demand.until else None,
        "order": demand.opened.name.lower(),
    }


def _record_json(record: DnsRecord) -> dict[str, Any]:
    """Return one record of a customer's DNS as a JSON object."""
    return {
        "type": record.type,
        "host": one_line(record.host),
        "fqdn": one_line(record.fqdn),
        "value": one_line(record.value),
        "verdict": record.verdict,
        "seen": [one_line(value) for value in record.seen],
    }


def certificate_json(certificate: Certificate) -> dict[str, Any]:
    """Return the public facts of a certificate as a JSON object."""
    return {
        "serial": certificate.serial,
        "issuer": one_line(certificate.issuer),
        "not_before": rfc3339(certificate.not_before),
        "not_after": rfc3339(certificate.not_after),
        "names": list(certificate.names),
        "key_type": certificate.key_type,
        "fingerprint_sha256": certificate.fingerprint,
    }


def error_json(error: CertctlError) -> dict[str, Any]:
    """Return an error as the public JSON object."""
    return {
        "code": error.slug,
        "who": error.kind.who,
        "message": one_line(error.message),
        "seen": [one_line(line) for line in error.seen],
        "expected": [one_line(line) for line in error.expected],
        "next": [one_line(line) for line in error.next],
        "retryable": error.kind.retryable,
        "retry_after": error.retry_after,
        "quota_used": error.quota_used,
    }
