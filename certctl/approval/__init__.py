"""Approval (party 2): the operator's yes or no about a domain, from a list or by one HTTPS request."""

from certctl.approval.answer import Answer, Verdict
from certctl.approval.endpoint import ApprovalSettings
from certctl.approval.operator import HttpOperator, NullAnswerStore

__all__ = ["Answer", "ApprovalSettings", "HttpOperator", "NullAnswerStore", "Verdict"]
