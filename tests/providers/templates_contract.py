"""The contract of a provider that stores templates. Subclass it beside `HttpProviderContract`."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import pytest
from msgspec.structs import replace

from mailroom.errors import Misconfigured, Rejected
from mailroom.message import Address, Email
from mailroom.providers import Provider
from mailroom.providers.http.http_provider import HttpProvider
from tests.mails import CODE, email, templated
from tests.providers.http_service import HttpService, Vendor


def written(provider: Provider, mail: Email) -> str:
    """Return the body of the request for a mail, forms decoded."""
    assert isinstance(provider, HttpProvider)
    call = provider.build_request(mail)
    body = call.body.decode()
    return unquote_plus(body) if "form" in call.content_type else body


class TemplatesContract:
    """The promises; `provider` and `service` are `HttpProviderContract`'s."""

    vendor: Vendor

    async def test_the_request_has_the_template_and_its_variables(
        self, provider: Provider, service: HttpService
    ) -> None:
        receipt = await provider.send(templated(self.vendor.template))
        assert receipt.provider_message_id
        assert len(service.recorder.requests) == 1
        body = written(provider, templated(self.vendor.template))
        for expected in (self.vendor.template, CODE, "de-AT de", "https://acme.example/logo.png"):
            assert expected in body

    async def test_with_a_template_subject_and_bodies_are_not_sent(self, provider: Provider) -> None:
        mail = replace(templated(self.vendor.template), text="written here", html="<p>written here</p>")
        assert "written here" not in written(provider, mail)

    async def test_with_a_template_the_other_fields_are_the_same(self, provider: Provider) -> None:
        mail = replace(templated(self.vendor.template), reply_to=Address("help@acme.example", "Help"))
        body = written(provider, mail)
        for expected in (mail.id, mail.recipient, mail.sender.email, "help@acme.example", "Auto-Submitted"):
            assert expected in body

    async def test_without_a_template_the_request_has_no_template_fields(self, provider: Provider) -> None:
        """The variables must not be sent."""
        body = written(provider, replace(email(), variables={"secret": "of variables"}))
        assert "of variables" not in body
        assert "emplate" not in body

    @pytest.mark.parametrize(
        "variables",
        [
            {},
            {"code": None, "a": [1, {"b": []}], "": "", "x y": "z", "n": 10**400, "big": "x" * 100_000},
            {"deep": {"er": {"and": {"deeper": {"a": {"b": {"c": {"d": {"e": {"f": {"g": "h"}}}}}}}}}}},
        ],
        ids=["none", "odd", "deep"],
    )
    async def test_any_variables_are_written_or_refused(self, provider: Provider, variables: Mapping[str, Any]) -> None:
        try:
            assert written(provider, replace(templated(self.vendor.template), variables=variables))
        except (Misconfigured, Rejected) as refused:
            assert refused.diagnostic  # noqa: PT017  # either is a pass, another error is none

    def test_the_settings_name_a_template_for_each_kind(self) -> None:
        given = {**self.vendor.options, "templates": {"SignIn": self.vendor.template, "Register": ""}}
        settings = self.vendor.settings.model_validate(given)
        assert [settings.template_for(kind) for kind in ("SignIn", "Register")] == [self.vendor.template, ""]
