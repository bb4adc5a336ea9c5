"""The boundary between the control plane and a job: what a kind of step declares, and what it is handed."""
