"""``python -m forebay_workers``: the entry of the worker, and of the processes that its engines start."""

if __name__ == "__main__":
    from .serve import main

    main()
elif __name__ == "__mp_main__":  # multiprocessing imports this module again in each process of an engine
    from .parent import end_with_parent

    end_with_parent()
