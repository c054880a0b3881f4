"""Official scoring rules as pure functions: an answer and its targets in, a score out. Each names its source."""

from mixtune.evaluate.scoring.scored import Scored, Scorer

__all__ = ["Scored", "Scorer"]
