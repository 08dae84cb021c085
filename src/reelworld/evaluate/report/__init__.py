"""HTML report of an evaluation: texts of values, videos and the page."""
