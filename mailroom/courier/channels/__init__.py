"""Providers as the courier uses them: permits, rates, breakers, and what watches over them."""
