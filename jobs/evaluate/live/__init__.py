"""A sweep while it decodes: the curves of the blocks of items that are whole by now, from the store alone.

``follow`` gives what looks at one step; each look is cheap until another block (:mod:`jobs.evaluate.sweep.order`) is
whole, whose samples are then graded and drawn.
"""

from __future__ import annotations

from jobs.evaluate.live.follower import SweepFollower

follow = SweepFollower
