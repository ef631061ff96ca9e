"""Party 2: does the operator want this domain? One question over HTTPS, and what its answers mean."""

from certctl.approval.answer import Answer, Verdict
from certctl.approval.endpoint import ApprovalSettings
from certctl.approval.operator import HttpOperator

__all__ = ["Answer", "ApprovalSettings", "HttpOperator", "Verdict"]
