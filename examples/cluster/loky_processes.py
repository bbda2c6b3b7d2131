"""loky's processes, which are joblib's, and take functions of a notebook, too."""

from fits import main
from loky import get_reusable_executor

if __name__ == "__main__":
    executor = get_reusable_executor(2)
    main(executor)
    executor.shutdown()
