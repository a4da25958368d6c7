"""Tests of the outbox on PostgreSQL: the contract, and what is specific to PostgreSQL."""

from tests.outbox.contract import OutboxContract
from tests.outbox.limits_contract import LimitsContract


class TestContract(OutboxContract):
    """The contract, on PostgreSQL."""


class TestLimitsContract(LimitsContract):
    """The contract of the limits, on PostgreSQL."""
