"""
The audit trail: what happened, in a chain of records that anyone can check.
"""
