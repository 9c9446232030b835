"""What runs inside an executor: geometry and time on Spark columns."""
