"""What is exported against what happened: everything counted twice, once by us and once by everybody else."""
