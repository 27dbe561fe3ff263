"""Storage SCUs that are measured beside each other, each as a process of its own."""
