"""Programs over images and finished models: the commands, a service, a page in the browser."""
