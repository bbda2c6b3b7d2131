"""Processes of this machine, by Python alone."""

from concurrent.futures import ProcessPoolExecutor

from fits import main

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        main(executor)
