"""Ray's pool of workers: two are begun here; ray.init("auto"), in their place, has a cluster's."""

import ray
from fits import main
from ray.util.multiprocessing import Pool

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, _node_ip_address="127.0.0.1")
    main(Pool(2))
    ray.shutdown()
