"""Files that both `dataset` and `evaluation` read: class lists, the columns of AVA's CSV, times as files write them."""
