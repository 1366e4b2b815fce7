"""Studies of notebook 10: what more images buy, and what a rare class costs."""
