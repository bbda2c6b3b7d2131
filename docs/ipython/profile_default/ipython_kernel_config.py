"""Keeps out of the build's output what a kernel says of itself: that it speaks to the build without encryption."""

c = get_config()  # noqa: F821
c.Application.log_level = "ERROR"
