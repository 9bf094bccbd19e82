"""The gate: lets through to the Docker Engine what the policy allows, and nothing else."""
