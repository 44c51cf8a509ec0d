"""The exit statuses of every command."""

PASSED, FAILED, UNUSABLE = 0, 1, 2
INTERRUPTED = 130  # as shells report a process that Ctrl-C ended: 128 + SIGINT
