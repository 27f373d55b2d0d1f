"""Spans: how they are made, sampled, carried over process borders and exported. The cost of the hot path lives here."""
