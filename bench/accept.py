"""Row a: accepting durably, against a bare endpoint on the same server that parses the same body and answers 200."""

from bench.figures import Figure, interleaved
from bench.processes import Running, load, mailroom, program

SECONDS = "4"
_AIM_RATIO = 0.70
_AIM_P99 = 3.0


def measure(rounds: int) -> list[Figure]:
    """Return the row's figures."""
    with (
        program("-m", "bench.bare", "{port}") as bare,
        mailroom(role="web") as kept,
        mailroom(variant="instant") as sent,
    ):
        numbers = iter(range(10**6, 10**9, 10**6))

        def loaded(running: Running) -> dict[str, float]:
            figures = load(running, "--seconds", SECONDS, "--first", str(next(numbers)))
            return {key: figures[key] for key in ("per_second", "p50_ms", "p99_ms", "cpu_us")}

        bare_, kept_, sent_ = interleaved(rounds, lambda: loaded(bare), lambda: loaded(kept), lambda: loaded(sent))
    cpu = kept_["cpu_us"] / bare_["cpu_us"]
    ratio, p99 = kept_["per_second"] / bare_["per_second"], kept_["p99_ms"] / bare_["p99_ms"]
    whole = sent_["per_second"] / bare_["per_second"]
    return [
        Figure("a", "durable POST /email, role web, 64 connections: requests/s", *_rates(kept_, bare_), ratio,
               f"≥ {_AIM_RATIO}", met=ratio >= _AIM_RATIO),
        Figure("a", "its CPU a request", f"{kept_['cpu_us']:.1f} µs", f"{bare_['cpu_us']:.1f} µs", cpu, "", met=None),
        Figure("a", "its p99", f"{kept_['p99_ms']:.1f} ms", f"{bare_['p99_ms']:.1f} ms", p99,
               f"≤ {_AIM_P99:g}", met=p99 <= _AIM_P99),
        Figure("a", "the same, role all, a provider that accepts at once", *_rates(sent_, bare_), whole, "", met=None),
    ]  # fmt: skip


def _rates(ours: dict[str, float], theirs: dict[str, float]) -> tuple[str, str]:
    return f"{ours['per_second']:,.0f}/s", f"{theirs['per_second']:,.0f}/s"
