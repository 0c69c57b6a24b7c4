"""What a run looks like: on a terminal, as plain lines, as JSON."""
