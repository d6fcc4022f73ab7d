"""What a training needs, worked out before it starts. Imports no torch; a worker asks the same functions."""

from studio.machine import Machine, look
from studio.planning.memory import Memory
from studio.planning.passes import Course
from studio.planning.plan import Plan, Verdict, plan
from studio.planning.relief import another_try

__all__ = ["Course", "Machine", "Memory", "Plan", "Verdict", "another_try", "look", "plan"]
