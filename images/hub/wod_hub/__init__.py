"""What makes JupyterHub the hub of a Workshops-on-Demand backend: logins and servers by seat, live routes."""
