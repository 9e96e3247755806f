"""What the agent tells the backup server when it cannot go on."""


class AgentError(Exception):
    """A failure with the name it has on the backup server.

    `error` is the name of a class in blockdiff/errors.py and `args` are that
    class's arguments, so that the server raises the very error that a local
    failure would have raised.
    """

    def __init__(self, error, *args):
        super().__init__(*args)
        self.error = error

    def __str__(self):
        return "%s: %s" % (self.error, ": ".join(str(argument) for argument in self.args))
