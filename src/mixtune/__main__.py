"""`python -m mixtune`: the command line, for launchers such as torchrun."""

from mixtune.cli import app

if __name__ == "__main__":
    app(prog_name="mixtune")
