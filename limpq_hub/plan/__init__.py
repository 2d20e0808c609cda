"""DECIDE the bits: budgets, costs, indicators, policies and the exact search. No torch, no network."""
