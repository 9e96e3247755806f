"""A call in a thread of its own."""

import threading


def in_thread(function):
    """Run function in a thread; return it and a list that gets what came of it."""
    outcome = []

    def run():
        try:
            outcome.append(function())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome
