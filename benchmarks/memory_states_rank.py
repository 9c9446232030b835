"""One process of benchmarks.memory_states."""

import sys
from pathlib import Path

from benchmarks.memory_states import rank_program

if __name__ == "__main__":
    rank_program(Path(sys.argv[1]))
