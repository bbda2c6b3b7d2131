"""One model over several ranks, with the same bits on 1, 2, 4 and 8 of them."""
