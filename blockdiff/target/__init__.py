"""What a restore writes: checked before, and written so that nothing half done looks whole."""
