"""Every failure has one slug, one family, one exit code."""

import pytest

from certctl.errors import CATALOGUE, CertctlError, ExitCode, NotReady
from certctl.slugs import Slug


def test_slugs_are_unique_and_spelled_alike() -> None:
    assert all(
        slug == kind.slug and slug.replace("-", "").isalnum() and slug.islower() for slug, kind in CATALOGUE.items()
    )


def test_every_family_has_an_exit_code_of_its_own() -> None:
    families = CertctlError.__subclasses__()
    assert {family.exit_code for family in families} == set(ExitCode) - {ExitCode.DONE}
    assert len({family.exit_code for family in families}) == len(families)


def test_an_error_cannot_be_raised_under_another_familys_slug() -> None:
    with pytest.raises(TypeError, match="approval-refused is raised as NotApproved"):
        NotReady(Slug.APPROVAL_REFUSED, "no")


def test_the_last_command_to_type_is_always_the_explanation() -> None:
    error = NotReady(Slug.DNS_NO_DATA, "nothing", next=["certctl verify a.example.com"])
    assert error.next == ("certctl verify a.example.com", "certctl explain dns-no-data")
