"""The one error of the agent: the server raises it again under the same name."""


class AgentError(Exception):
    """A failure; `error` is the name of a class in blockdiff/errors.py, `args` are its arguments."""

    def __init__(self, error, *args):
        super().__init__(*args)
        self.error = error

    def __str__(self):
        return "%s: %s" % (self.error, ": ".join(str(argument) for argument in self.args))
