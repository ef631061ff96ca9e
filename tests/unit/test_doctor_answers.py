"""What the doctor says of the CA's challenge when nginx is asked for several names."""

from certctl.domain import Domain
from certctl.errors import CATALOGUE, CertctlError
from certctl.nginx.doctor import answers
from certctl.slugs import Slug
from certctl.values import Done, Level

NAMES = (Domain("a.example.com"), Domain("b.example.com"))


class Answering:
    """An nginx that fails in a way for some names; TLS works."""

    def __init__(self, slug: Slug, *failing: Domain) -> None:
        self.slug = slug
        self.failing = failing
        self.asked: list[Domain] = []

    def require_challenge(self, domain: Domain) -> Done:
        self.asked.append(domain)
        if domain in self.failing:
            raise failure(self.slug, domain)
        return Done("port 80 answers the challenge")

    def require_tls(self) -> Done:
        return Done("port 443 answers TLS")


def failure(slug: Slug, domain: Domain) -> CertctlError:
    return CATALOGUE[slug].family(slug, f"{slug} {domain}", next=["certctl doctor"])


def test_what_answers_for_one_name_is_asked_for_the_others_and_the_customers_is_told() -> None:
    web = Answering(Slug.NGINX_CHALLENGE_INTERCEPTED, *NAMES)
    found = list(answers(web, NAMES))
    assert [finding.level for finding in found] == [Level.PROBLEM, Level.OK]
    assert "b.example.com" in found[0].text
    assert len(web.asked) == 4


def test_an_nginx_that_is_not_there_for_one_name_is_not_asked_for_another() -> None:
    web = Answering(Slug.NGINX_NOT_RUNNING, *NAMES)
    found = list(answers(web, NAMES))
    assert [finding.level for finding in found] == [Level.PROBLEM]
    assert "a.example.com" in found[0].text
    assert web.asked[-1] == NAMES[0]
