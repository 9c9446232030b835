"""How good a model is: scores of answers, their intervals, and what they are compared with."""
