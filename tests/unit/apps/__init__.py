"""The commands, the service and the page."""
