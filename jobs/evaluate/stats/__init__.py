"""What a number is worth: points, intervals, curves, and what lies between points. Pure functions of outcomes."""
