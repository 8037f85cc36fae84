"""What must be fast, each as a command of its own: `python -m perf.targets NAME…`, or all of them."""
