"""The command line: `app`, and a module for each group of commands. Each imports what it needs when it is called."""

from mixtune.cli.base import app

# Importing a group registers its commands, in the order that --help lists them.
# isort: off
from mixtune.cli import running, answering, comparing, analysing, checking, converting, pocket
# isort: on

__all__ = ["analysing", "answering", "app", "checking", "comparing", "converting", "pocket", "running"]
