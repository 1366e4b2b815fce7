"""The machine: device, threads, timing and files."""
