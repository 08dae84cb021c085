"""Numbers about quality and speed with their intervals and baselines, and the report that shows them."""
