"""Keeps what a kernel says of itself out of the build's output: that it speaks to the build, on this machine, in the open."""

c = get_config()  # noqa: F821
c.Application.log_level = "ERROR"
