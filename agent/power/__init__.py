"""`sterna-power`: root's few verbs. Standard library only.

The agent runs unprivileged; what needs root is done here, for it alone, and nothing else is: cap and lift
clocks and GPU power, freeze and thaw Sterna's own job units, switch to an allowed nvpmodel mode.
"""
