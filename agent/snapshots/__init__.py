"""Snapshots of logical volumes; pushed only where one may be wanted."""
