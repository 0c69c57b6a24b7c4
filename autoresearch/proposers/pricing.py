"""What tokens cost, from the price list that genai-prices carries; works with no network."""

from __future__ import annotations

from autoresearch.trial import Usage

PROVIDER = "anthropic"
"""A model that this provider does not list, as a local one, has no price."""


def cost_usd(model: str, usage: Usage) -> float:
    """The price of `usage`; 0 where the model has no known price."""
    return _price(model, usage) or 0.0


def priced(model: str) -> bool:
    """Whether the model has a known price."""
    return _price(model, Usage(input=1, output=1)) is not None


def _price(model: str, usage: Usage) -> float | None:
    import genai_prices  # noqa: PLC0415 - megabytes of prices, of no use to most commands

    counted = genai_prices.Usage(
        # a server that miscounts must not end the run: the parts of a total are never more than the total
        input_tokens=max(usage.input, usage.cached + usage.written),
        cache_read_tokens=usage.cached,
        cache_write_tokens=usage.written,
        output_tokens=usage.output,
    )
    try:
        return float(genai_prices.calc_price(counted, model, provider_id=PROVIDER).total_price)
    except LookupError:
        return None
