"""Draws the provisioned Grafana dashboards from a running Prometheus, where there is no Grafana."""
