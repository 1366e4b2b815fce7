"""Studies: many settings of one thing, measured alike, as tidy rows; one question a file."""
