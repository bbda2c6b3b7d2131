"""Ranks of MPI, the first of which gives out the work.

mpiexec -n 4 python -m mpi4py.futures examples/cluster/mpi_ranks.py
"""

from fits import main
from mpi4py.futures import MPIPoolExecutor

if __name__ == "__main__":
    with MPIPoolExecutor() as executor:
        main(executor)
