"""The `ssh` program as a transport: the suite of all transports, and why it failed, in plain words."""

import pytest
from transports import SOON_S, Contract

from blockdiff.transport.destination import Destination
from blockdiff.transport.openssh import OpenSshTransport


class TestOpenSsh(Contract):
    tells_signals = False  # the program exits with 255 then

    @pytest.fixture
    def begin(self, sshd, ssh_lab):
        def begin(command, **options):
            settings = ssh_lab.settings
            return OpenSshTransport(Destination("source"), command, settings=settings, timeout_s=SOON_S, **options)

        return begin
