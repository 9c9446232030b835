"""Made figures with captions, for demos, tests and benchmarks at any scale. Made, not real.

Everything about a figure follows from (seed, number) and the shares asked for, so that the first
figures of a larger run are the same. Nothing here needs Spark but `frame`.
"""
