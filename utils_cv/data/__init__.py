"""From files to an image table, splits and pixels."""
