"""What a training needs, worked out before it starts. Imports no torch; a worker asks the same functions."""

from studio.planning.machine import Machine, look
from studio.planning.memory import Memory
from studio.planning.plan import Plan, Verdict, plan

__all__ = ["Machine", "Memory", "Plan", "Verdict", "look", "plan"]
