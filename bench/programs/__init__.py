"""The programs that are started by measurements, each as a process of its own: loads, peers, servers."""
