"""The simple repository API.

Read, negotiate, rewrite (PEP 503, 592, 629, 658, 691, 700, 708, 714, 740, 792).
"""
