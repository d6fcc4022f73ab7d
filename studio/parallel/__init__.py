"""Ways of spreading a training over processes, devices and machines; what they are called and what they cost.

No torch here: the form, the planner and the launchers read it.
"""
