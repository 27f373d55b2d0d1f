"""What drives the measured processes and collects their answers, one module for each kind of workload."""
