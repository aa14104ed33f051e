"""Where there is no torch (the base environment), the tests of the training room are not collected."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("torch") else ["training"]
