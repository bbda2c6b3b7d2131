"""Dask's workers: two are begun here; Client("scheduler:8786"), in their place, has a cluster's."""

from distributed import Client, LocalCluster
from fits import main

if __name__ == "__main__":
    with LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        with Client(cluster) as client:
            main(client.get_executor())
