"""All of it together: start the services of one host, show them with real jobs, and find out which hop is broken."""

from wafermonitor.deploy.errors import DeployError, DeployRejected, DeployUnavailable

__all__ = ["DeployError", "DeployRejected", "DeployUnavailable"]
