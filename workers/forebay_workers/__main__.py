"""``python -m forebay_workers`` runs a worker."""

from .serve import main

if __name__ == "__main__":
    main()
