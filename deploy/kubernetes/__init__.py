"""The fleet on Kubernetes: a Helm chart, the Secrets that it needs, and the step that prepares the servers."""
