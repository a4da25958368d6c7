"""What a provider promises that keeps templates of its own. Subclass it beside `HttpProviderContract`."""

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
from tests.providers.http_far_end import HttpFarEnd, Vendor


def written(provider: Provider, mail: Email) -> str:
    """Return the body of the request for a mail, forms decoded."""
    assert isinstance(provider, HttpProvider)
    call = provider.build_request(mail)
    body = call.body.decode()
    return unquote_plus(body) if "form" in call.content_type else body


class TemplatesContract:
    """The promises; `provider` and `far_end` are `HttpProviderContract`'s."""

    vendor: Vendor

    async def test_a_template_of_theirs_is_named_and_filled(self, provider: Provider, far_end: HttpFarEnd) -> None:
        receipt = await provider.send(templated(self.vendor.template))
        assert receipt.provider_message_id
        assert len(far_end.recorder.requests) == 1
        body = written(provider, templated(self.vendor.template))
        for expected in (self.vendor.template, CODE, "de-AT de", "https://acme.example/logo.png"):
            assert expected in body

    async def test_with_a_template_of_theirs_our_words_stay_here(self, provider: Provider) -> None:
        mail = replace(templated(self.vendor.template), text="written here", html="<p>written here</p>")
        assert "written here" not in written(provider, mail)

    async def test_all_else_of_the_mail_is_as_ever(self, provider: Provider) -> None:
        mail = replace(templated(self.vendor.template), reply_to=Address("help@acme.example", "Help"))
        body = written(provider, mail)
        for expected in (mail.id, mail.recipient, mail.sender.email, "help@acme.example", "Auto-Submitted"):
            assert expected in body

    async def test_without_one_nothing_is_said_of_templates(self, provider: Provider) -> None:
        """What the variables hold must not go along."""
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
            assert refused.words  # noqa: PT017  # either is a pass, another error is none

    def test_the_settings_name_a_template_for_each_kind(self) -> None:
        given = {**self.vendor.options, "templates": {"SignIn": self.vendor.template, "Register": ""}}
        settings = self.vendor.settings.model_validate(given)
        assert [settings.template_for(kind) for kind in ("SignIn", "Register")] == [self.vendor.template, ""]
